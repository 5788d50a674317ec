/**
 * Syncing as Element X does: a part of the rooms' events, hardly any members, and an encryption connection that begins
 * anew at each start.
 */
package org.matrixmls.tests

import java.net.URLEncoder
import java.util.UUID
import java.util.concurrent.ConcurrentLinkedQueue
import org.json.JSONArray
import org.json.JSONObject
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertFalse
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Test
import org.matrixmls.FollowedRooms
import org.matrixmls.MlsException
import org.matrixmls.SendPlan
import org.matrixmls.SyncChanges
import org.matrixmls.SyncStart
import org.matrixmls.Transport
import org.matrixmls.drive
import org.matrixmls.prepare
import org.matrixmls.sample.MatrixClient
import org.matrixmls.sample.signOut
import org.matrixmls.syncChangesFromSlidingSync

private const val PATH = "/_matrix/client/unstable/org.matrix.simplified_msc3575/sync?timeout=0"

/** The two sliding sync connections of an app (MSC4186), and what it keeps of them when it is closed. */
private class ElementX(private val client: MatrixClient, private val members: List<String> = listOf("\$LAZY", "\$ME")) {
    /** Where the room list goes on; kept. */
    private var rooms: String? = null

    /** Where the encryption connection goes on; not kept. */
    private var encryption: String? = null

    /** The to-device events that were seen; kept. */
    private var toDevice: String? = null

    /** One sync of both. The encryption first: a Welcome explains what the rooms have. */
    suspend fun sync(): List<SyncChanges> = listOf(syncEncryption(), syncRooms()).onEach { client.machine.receiveSync(it) }

    /** The room list of an app whose machine does not hear of it. */
    suspend fun syncRooms(): SyncChanges {
        val state = listOf("m.room.encryption", "m.room.create", "m.room.history_visibility", "org.matrix.msc2883.v1.dmls.restart").map { listOf(it, "") } +
            members.map { listOf("m.room.member", it) }
        val list = JSONObject().put("ranges", JSONArray("[[0,19]]")).put("timeline_limit", 1).put("filters", JSONObject())
            .put("required_state", JSONArray(state))
        val request = JSONObject().put("conn_id", "room-list").put("lists", JSONObject().put("all_rooms", list))
        val (changes, _) = ask(request, rooms)
        rooms = changes.nextBatch
        return changes
    }

    private suspend fun syncEncryption(): SyncChanges {
        val events = JSONObject().put("enabled", true)
        toDevice?.let { events.put("since", it) }
        val extensions = JSONObject().put("to_device", events).put("e2ee", JSONObject().put("enabled", true))
        val request = JSONObject().put("conn_id", "encryption").put("extensions", extensions)
        val (changes, response) = ask(request, encryption)
        encryption = changes.nextBatch
        toDevice = response.getJSONObject("extensions").getJSONObject("to_device").getString("next_batch")
        return changes
    }

    private suspend fun ask(request: JSONObject, pos: String?): Pair<SyncChanges, JSONObject> {
        val path = PATH + (pos?.let { "&pos=${URLEncoder.encode(it, Charsets.UTF_8)}" } ?: "")
        val answer = client.transport.exchange("POST", path, request.toString().toByteArray())
        val response = answer.body.decodeToString()
        check(answer.status == 200) { response }
        return syncChangesFromSlidingSync(request.toString(), pos, response) to JSONObject(response)
    }

    /** The app is closed and opened again. */
    fun restart() {
        encryption = null
    }

    /** Syncs, and sends what the engine wants sent, until nothing is left and nothing new comes. */
    suspend fun settle() {
        do {
            val sent = client.machine.drive(client.transport).accepted
            val news = sync().any { it.rooms.isNotEmpty() || it.toDevice.isNotEmpty() || it.deviceLists?.changed?.isNotEmpty() == true }
        } while (sent > 0 || news)
    }
}

class SlidingSyncTest {
    /** Alice's app, which syncs like Element X, in a room of Bob's; who else is in it came before the first message. */
    private suspend fun roomOfBobs(alice: MatrixClient, bob: MatrixClient, vararg others: MatrixClient): String {
        // Published, so that she can be added.
        alice.machine.drive(alice.transport)
        val roomId = bob.createRoom((others.toList() + alice).map { it.userId })
        for (client in others.toList() + alice) client.join(roomId)
        bob.settle()
        bob.enable(roomId)
        bob.send(roomId, "first")
        for (client in others) client.settle()
        return roomId
    }

    private suspend fun MatrixClient.users(roomId: String): Set<String> =
        machine.room(roomId).members().map { it.userId }.toSet()

    /** Chatter that pushes what was before out of a timeline of one event. */
    private suspend fun chatter(client: MatrixClient, roomId: String) = repeat(3) { number ->
        val path = "/_matrix/client/v3/rooms/$roomId/send/m.room.message/${UUID.randomUUID()}"
        val content = JSONObject().put("msgtype", "m.notice").put("body", "notice $number")
        assertEquals(200, client.transport.exchange("PUT", path, content.toString().toByteArray()).status)
    }

    @Test
    fun `a member who left in a gap does not read`() = test {
        val (alice, bob, carol) = Triple(accountThatNeverSynced("alice"), account("bob"), account("carol"))
        val roomId = roomOfBobs(alice, bob, carol)
        val app = ElementX(alice)
        app.settle()
        alice.send(roomId, "with carol")
        app.settle()
        assertEquals(setOf(alice.userId, bob.userId, carol.userId), alice.users(roomId))
        bob.kick(roomId, carol.userId)
        chatter(bob, roomId)
        app.restart()
        val (encryption, rooms) = app.sync()
        assertEquals(SyncStart.Anew to "encryption", encryption.start to encryption.connection)
        assertEquals("room-list" to FollowedRooms.All, rooms.connection to rooms.followedRooms)
        val changes = rooms.rooms.single()
        assertTrue(rooms.start is SyncStart.After && changes.limited && changes.timeline.size == 1, rooms.toString())
        assertFalse((changes.timeline + changes.stateAfter).any { it.contains(carol.userId) }, "nobody was told of Carol")

        val room = alice.machine.room(roomId)
        fails(MlsException.NotReady::class, "not_ready") { room.encrypt("m.room.message", "{}") }
        val seen = ConcurrentLinkedQueue<String>()
        alice.machine.prepare(room, Transport { seen += it.path; alice.transport.send(it) })
        assertTrue(seen.any { it.contains("/messages") }, "what the gap hides was asked for: $seen")
        assertEquals(setOf(alice.userId, bob.userId), alice.users(roomId))
        alice.send(roomId, "among us")
        bob.settle()
        val event = bob.encryptedEvents(roomId).last().toString()
        assertTrue(bob.machine.room(roomId).decrypt(event).content.contains("among us"))
        assertTrue(runCatching { carol.machine.room(roomId).decrypt(event) }.exceptionOrNull() is MlsException.UnknownEpoch)
        for (client in listOf(alice, bob, carol)) client.close()
    }

    @Test
    fun `nobody is removed because no member was told of`() = test {
        for (isKept in listOf(false, true)) {
            val (alice, bob, carol) = Triple(accountThatNeverSynced("alice"), account("bob"), account("carol"))
            val roomId = roomOfBobs(alice, bob, carol)
            val app = ElementX(alice, members = emptyList())
            // A position of the time before the app had this library.
            if (isKept) app.syncRooms()
            chatter(bob, roomId)
            val told = app.sync().last().rooms.single()
            assertFalse((told.timeline + told.stateAfter).any { it.contains("m.room.member") }, told.toString())
            // A room whose state was not shown is asked about.
            alice.machine.drive(alice.transport)
            val everybody = setOf(alice.userId, bob.userId, carol.userId)
            assertEquals(everybody, alice.users(roomId))
            val before = alice.machine.room(roomId).epochs().single { it.isHead }.id
            alice.send(roomId, "to all")
            assertEquals(everybody, alice.users(roomId))
            // The keys that came with the Welcome are renewed with the first message.
            val after = alice.machine.room(roomId).epochs().single { it.isHead }
            assertEquals(before to alice.userId, after.parent to after.creatorUserId, "there was nothing else to commit")
            for (client in listOf(bob, carol)) {
                client.settle()
                val event = client.encryptedEvents(roomId).last().toString()
                assertTrue(client.machine.room(roomId).decrypt(event).content.contains("to all"))
            }
            for (client in listOf(alice, bob, carol)) client.close()
        }
    }

    @Test
    fun `a device that was logged out while the app was closed does not read`() = test {
        val (alice, bob) = accountThatNeverSynced("alice") to account("bob")
        val laptop = anotherDevice(bob, "LAPTOP").also { it.settle() }
        val roomId = roomOfBobs(alice, bob)
        val app = ElementX(alice)
        app.settle()
        alice.send(roomId, "with the laptop")
        laptop.settle()
        assertEquals(3, alice.machine.room(roomId).members().size)
        bob.signOut("LAPTOP", "secret")
        app.restart()
        app.settle()
        alice.send(roomId, "without it")
        assertEquals(listOf("PHONE", "PHONE"), alice.machine.room(roomId).members().map { it.deviceId })
        bob.settle()
        val event = bob.encryptedEvents(roomId).last().toString()
        assertTrue(bob.machine.room(roomId).decrypt(event).content.contains("without it"))
        assertTrue(runCatching { laptop.machine.room(roomId).decrypt(event) }.exceptionOrNull() is MlsException.UnknownEpoch)
        for (client in listOf(alice, bob, laptop)) client.close()
    }

    @Test
    fun `an app can have all asked for again`() = test {
        val (alice, bob) = accountThatNeverSynced("alice") to account("bob")
        val roomId = roomOfBobs(alice, bob)
        ElementX(alice).settle()
        alice.prepare(roomId)
        val room = alice.machine.room(roomId)
        assertEquals(SendPlan.Ready, room.prepareToSend())
        room.doubtMembers()
        val plan = room.prepareToSend() as SendPlan.Waiting
        assertTrue(plan.requests.single().path.contains("/members"), plan.toString())
        alice.prepare(roomId)
        alice.machine.doubtDeviceLists()
        assertTrue(alice.machine.outgoingRequests().any { it.path.endsWith("/keys/query") })
        alice.send(roomId, "all the same")
        for (client in listOf(alice, bob)) client.close()
    }
}
