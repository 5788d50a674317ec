/**
 * Groups that fork, and devices that cannot go on by themselves: what an app sees of it, and that it has nothing to
 * do but to go on.
 */
package org.matrixmls.tests

import java.util.concurrent.ConcurrentLinkedQueue
import org.json.JSONObject
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertFalse
import org.junit.jupiter.api.Assertions.assertNotEquals
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Test
import org.matrixmls.EpochInfo
import org.matrixmls.EventOutcome
import org.matrixmls.MlsDevice
import org.matrixmls.MlsException
import org.matrixmls.OutgoingRequest
import org.matrixmls.RequestKind
import org.matrixmls.RoomChanges
import org.matrixmls.RoomSettings
import org.matrixmls.SendPlan
import org.matrixmls.Transport
import org.matrixmls.Update
import org.matrixmls.code
import org.matrixmls.drive
import org.matrixmls.prepare
import org.matrixmls.reason
import org.matrixmls.retryable
import org.matrixmls.sample.MatrixClient

class ForksTest {
    /** Another device of this user, that knows of nothing but its own keys. */
    private suspend fun laptop(client: MatrixClient): MatrixClient =
        anotherDevice(client, "LAPTOP").also { it.machine.drive(it.transport) }

    @Test
    fun `two commits at once are two branches, all is read, and the room goes on with one`() = test {
        val (alice, bob, carol) = Triple(account("alice"), account("bob"), account("carol"))
        val roomId = roomOf(alice, bob)
        val heard = Heard(alice.machine)
        // Alice adds Carol, of whom Bob has not heard; Bob renews his keys twice.
        alice.invite(roomId, carol.userId)
        carol.join(roomId)
        alice.settle()
        alice.prepare(roomId)
        val first = alice.head(roomId)
        bob.commit(roomId)
        assertEquals(first.epoch, bob.head(roomId).epoch)
        assertNotEquals(first.id, bob.head(roomId).id)
        bob.commit(roomId)
        val longer = bob.head(roomId)
        for ((name, client) in listOf("alice" to alice, "bob" to bob)) client.send(roomId, "on the branch of $name")

        settle(alice, bob)
        assertEquals(Update.Forked(roomId, first.epoch), heard.one<Update.Forked>())
        for (client in listOf(alice, bob)) assertEquals(longer.id, client.head(roomId).id)
        alice.send(roomId, "together")
        settle(alice, bob, carol)
        val merge = alice.head(roomId)
        assertEquals(listOf(longer.id, listOf(first.id), 3u), listOf(merge.parent, merge.resolves, merge.members))
        for (client in listOf(bob, carol)) assertEquals(merge.id, client.head(roomId).id)
        for (client in listOf(alice, bob)) {
            assertEquals(listOf("on the branch of alice", "on the branch of bob", "together"), client.texts(roomId))
        }
        // Who was on one branch only reads that one.
        assertEquals(listOf("on the branch of alice", "unread", "together"), carol.texts(roomId))
        heard.close()
        close(alice, bob, carol)
    }

    @Test
    fun `a branch that cannot be followed is an error of its events, and whoever was outrun joins anew`() = test {
        val (alice, bob) = account("alice") to account("bob")
        val roomId = roomOf(alice, bob)
        val heard = Heard(bob.machine)
        val room = bob.machine.room(roomId)
        assertEquals(RoomSettings(), room.settings())
        val short = RoomSettings(keptEpochs = 0u)
        room.setSettings(short)
        assertEquals(short, room.settings())
        // Bob goes on far enough to have let go of the epoch on which Alice commits; Alice goes further.
        repeat(2) { bob.commit(roomId) }
        repeat(3) { alice.commit(roomId) }
        val results = room.receiveEvents(bob.events(roomId).map { it.toString() })
        val errors = results.mapNotNull { (it.outcome as? EventOutcome.Failed)?.error }
        val forked = errors.filterIsInstance<MlsException.Forked>()
        assertEquals(3, forked.size, results.toString())
        for (error in forked) assertEquals("forked" to false, error.code to error.retryable)
        val healing = heard.one<Update.Healing>()
        assertEquals(roomId, healing.roomId)

        bob.send(roomId, "here again")
        val missed = heard.one<Update.EpochsMissed>()
        assertEquals(Update.Healed(roomId, healing.reason), heard.one<Update.Healed>())
        settle(alice, bob)
        assertTrue("here again" in alice.texts(roomId), alice.texts(roomId).toString())
        val joined = alice.machine.room(roomId).epochs().single { it.isExternal }
        assertEquals(bob.userId to 2u, joined.creatorUserId to joined.members)
        assertEquals(roomId to joined.epoch - 1u, missed.roomId to missed.last)
        assertTrue(missed.first <= missed.last, missed.toString())
        assertEquals(alice.head(roomId).id, bob.head(roomId).id)
        heard.close()
        close(alice, bob)
    }

    @Test
    fun `a device joins with nobody online, by requests of every kind`() = test {
        val (alice, bob) = account("alice") to account("bob")
        val roomId = roomOf(alice, bob)
        val laptop = laptop(bob)
        val room = laptop.machine.room(roomId)
        fails(MlsException.NotInGroup::class, "not_enabled") { room.joinExternally() }
        // It has seen what room it is, and none of the commits: those it has to look for, as for who is in the room.
        val state = laptop.events(roomId).filter { it.has("state_key") && it.getString("type") != "m.room.member" }
        room.receiveEvents(state.map { it.toString() })
        room.joinExternally()
        val seen = ConcurrentLinkedQueue<OutgoingRequest>()
        laptop.machine.prepare(room, Transport { seen += it; laptop.transport.send(it) })
        assertEquals(setOf("GET", "POST", "PUT"), seen.map { it.method }.toSet())
        assertTrue(seen.any { it.path.contains("/members") }, seen.toString())
        assertTrue(seen.all { it.body.isEmpty() == (it.method == "GET") }, seen.toString())
        assertEquals(SendPlan.Ready, room.prepareToSend())
        val head = laptop.head(roomId)
        assertTrue(head.isExternal)
        assertEquals(Triple(bob.userId, "LAPTOP", 3u), Triple(head.creatorUserId, head.creatorDeviceId, head.members))
        laptop.send(roomId, "from the laptop")
        settle(alice, bob)
        for (client in listOf(alice, bob)) assertEquals(listOf("from the laptop"), client.texts(roomId))
        close(alice, bob, laptop)
    }

    @Test
    fun `who has no group when it wants to send joins by itself`() = test {
        val (alice, carol) = account("alice") to account("carol")
        val roomId = alice.createRoom(emptyList())
        alice.settle()
        alice.enable(roomId)
        alice.prepare(roomId)
        alice.invite(roomId, carol.userId)
        carol.join(roomId)
        carol.settle()
        val heard = Heard(carol.machine)
        carol.send(roomId, "hello")
        assertEquals(roomId, heard.one<Update.Joined>().roomId)
        alice.settle()
        assertEquals(listOf("hello"), alice.texts(roomId))
        heard.close()
        close(alice, carol)
    }

    @Test
    fun `where there is nothing to join, that is told, and the room can still be made one`() = test {
        val alice = account("alice")
        val heard = Heard(alice.machine)
        val roomId = alice.createRoom(emptyList())
        alice.settle()
        val room = alice.machine.room(roomId)
        room.joinExternally()
        alice.machine.drive(alice.transport)
        assertEquals(roomId, heard.one<Update.HealingFailed>().roomId)
        val error = fails(MlsException.NotInGroup::class, "cannot_heal") { alice.prepare(roomId) }
        assertTrue(error.retryable, error.reason)
        alice.enable(roomId)
        alice.send(roomId, "alone")
        assertEquals(listOf("alone"), alice.texts(roomId))
        heard.close()
        close(alice)
    }

    @Test
    fun `a commit that does not fit the room is told, and nothing is sent to whom it added`() = test {
        val (alice, bob) = account("alice") to account("bob")
        val stranger = account("stranger")
        val roomId = roomOf(alice, bob)
        val heard = Heard(bob.machine)
        // Alice's homeserver and her app say that a stranger is in the room.
        val three = RoomChanges(roomId, limited = false, joinedCount = 3u)
        alice.machine.receiveSync(sync(rooms = listOf(three), connection = "of a liar"))
        alice.machine.room(roomId).setMembers(listOf(alice.userId, bob.userId, stranger.userId))
        alice.prepare(roomId)
        bob.settle()
        val unfit = heard.one<Update.UnfitCommit>()
        assertEquals(roomId to MlsDevice(alice.userId, "PHONE"), unfit.roomId to unfit.committer)
        assertTrue(unfit.doubts.single().contains(stranger.userId), unfit.toString())
        assertEquals(3u to unfit.doubts, bob.head(roomId).let { it.members to it.doubts })
        bob.send(roomId, "among us")
        assertFalse(bob.machine.room(roomId).members().any { it.userId == stranger.userId })
        heard.close()
        close(alice, bob, stranger)
    }

    @Test
    fun `whoever may set the room's state starts it anew, and nobody else`() = test {
        val (alice, bob) = account("alice") to account("bob")
        val roomId = roomOf(alice, bob)
        alice.send(roomId, "in the old group")
        settle(alice, bob)
        val (atAlices, atBobs) = Heard(alice.machine) to Heard(bob.machine)
        bob.machine.room(roomId).restart()
        bob.settle()
        val refused = atBobs.one<Update.RequestRefused>()
        assertEquals(Triple(RequestKind.RESTART, roomId, "M_FORBIDDEN"), Triple(refused.kind, refused.roomId, refused.code))
        bob.send(roomId, "as before")
        settle(alice, bob)

        alice.machine.room(roomId).restart()
        alice.prepare(roomId)
        settle(alice, bob)
        for (heard in listOf(atAlices, atBobs)) {
            assertEquals(Update.Restarted(roomId, alice.userId), heard.one<Update.Restarted>())
        }
        assertEquals(alice.head(roomId).id, bob.head(roomId).id)
        bob.send(roomId, "in the new group")
        settle(alice, bob)
        for (client in listOf(alice, bob)) {
            assertEquals(listOf("in the old group", "as before", "in the new group"), client.texts(roomId))
        }
        atAlices.close()
        atBobs.close()
        close(alice, bob)
    }

    @Test
    fun `a removal of who belongs there is told, and nobody waits for them`() = test {
        val (alice, bob) = account("alice") to account("bob")
        val carol = account("carol")
        val roomId = roomOf(alice, bob)
        alice.invite(roomId, carol.userId)
        carol.join(roomId)
        alice.settle()
        alice.prepare(roomId)
        val heard = Heard(alice.machine)
        bob.settle()
        // Bob's homeserver and his app say that Carol is not in the room.
        val two = RoomChanges(roomId, limited = false, joinedCount = 2u)
        bob.machine.receiveSync(sync(rooms = listOf(two), connection = "of a liar"))
        bob.machine.room(roomId).setMembers(listOf(alice.userId, bob.userId))
        bob.prepare(roomId)
        alice.settle()
        val undone = heard.one<Update.AddUndone>()
        assertEquals(roomId to MlsDevice(bob.userId, "PHONE"), undone.roomId to undone.by)
        assertEquals(carol.userId to "PHONE", undone.userId to undone.deviceId)
        assertEquals(600_000uL, undone.retryAfterMs)
        alice.send(roomId, "without her for now")
        assertFalse(alice.machine.room(roomId).members().any { it.userId == carol.userId })
        heard.close()
        close(alice, bob, carol)
    }
}
