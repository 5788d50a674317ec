/** What is told of rooms and devices, but for forks and healing (see [ForksTest]). */
package org.matrixmls.tests

import java.nio.file.Path
import org.json.JSONArray
import org.json.JSONObject
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertFalse
import org.junit.jupiter.api.Assertions.assertNull
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Test
import org.junit.jupiter.api.io.TempDir
import org.matrixmls.Answer
import org.matrixmls.EventOutcome
import org.matrixmls.MemberPolicy
import org.matrixmls.MlsDevice
import org.matrixmls.MlsException
import org.matrixmls.MlsMachine
import org.matrixmls.OutgoingRequest
import org.matrixmls.RoomSettings
import org.matrixmls.ToDeviceResult
import org.matrixmls.Transport
import org.matrixmls.Update
import org.matrixmls.Verdict
import org.matrixmls.markRequestAsSent
import org.matrixmls.prepare
import org.matrixmls.syncChangesFromResponse
import org.matrixmls.use

class UpdatesTest {
    @TempDir
    lateinit var directory: Path

    @Test
    fun `who comes and goes is told, also to whom it concerns`() = test {
        val (alice, bob) = account("alice") to account("bob")
        val (alicesHeard, bobsHeard) = Heard(alice.machine) to Heard(bob.machine)
        val roomId = roomOf(alice, bob)
        val bobsDevice = MlsDevice(bob.userId, "PHONE")
        assertEquals(Update.EpochChanged(roomId, 1u, listOf(bobsDevice), emptyList()), alicesHeard.one<Update.EpochChanged>())
        alice.kick(roomId, bob.userId)
        alice.settle()
        alice.prepare(roomId)
        bob.settle()
        assertEquals(Update.Removed(roomId), bobsHeard.one<Update.Removed>())
        val changes = alicesHeard.updates.filterIsInstance<Update.EpochChanged>()
        assertEquals(listOf(bobsDevice), changes.last().removed)
        for (heard in listOf(alicesHeard, bobsHeard)) heard.close()
        alice.close()
        bob.close()
    }

    @Test
    fun `a Welcome lets a device in`() = test {
        val (alice, bob) = account("alice") to account("bob")
        val roomId = alice.createRoom(listOf(bob.userId))
        bob.join(roomId)
        alice.settle()
        alice.enable(roomId)
        alice.prepare(roomId)
        val sync = OutgoingRequest("of no engine", "GET", "/_matrix/client/v3/sync?timeout=0", "application/json", ByteArray(0))
        val changes = syncChangesFromResponse(bob.transport.send(sync).body.decodeToString(), since = null)
        assertEquals(listOf(ToDeviceResult.Joined(roomId, 1u)), bob.machine.receiveSync(changes).toDevice)
        alice.close()
        bob.close()
    }

    @Test
    fun `devices that cannot be in a group are told, and hold nothing up`() = test {
        // Bob's device signs what it publishes and has no key package left; Carol's is none of MLS.
        val bobs = MlsMachine.open(config(directory.resolve("bob"), userId = "@bob:example.org")).use { bob ->
            val question = bob.outgoingRequests().single()
            bob.markRequestAsSent(question.id, 200, """{"device_keys":{}}""".toByteArray())
            JSONObject(bob.outgoingRequests().single().body.decodeToString()).getJSONObject("device_keys")
        }
        val carols = JSONObject().put("user_id", "@carol:example.org").put("device_id", "OLM")
            .put("algorithms", JSONArray()).put("keys", JSONObject()).put("signatures", JSONObject())
        val devices = JSONObject().put("@bob:example.org", JSONObject().put("PHONE", bobs))
            .put("@carol:example.org", JSONObject().put("OLM", carols))
        val homeserver = Transport { request ->
            when {
                request.path.contains("/keys/query") -> Answer(200, JSONObject().put("device_keys", devices).toString().toByteArray())
                request.path.contains("/keys/claim") -> Answer(200, """{"one_time_keys":{}}""".toByteArray())
                request.path.contains("/members") ->
                    Answer(200, members("@alice:example.org", "@bob:example.org", "@carol:example.org").toByteArray())
                else -> accepting.send(request)
            }
        }
        open(directory.resolve("alice")).use { machine ->
            val heard = Heard(machine)
            val room = machine.enableAlone("!room:example.org")
            room.doubtMembers()
            machine.prepare(room, homeserver)
            val unreachable = Update.DeviceUnreachable("!room:example.org", "@bob:example.org", "PHONE")
            assertEquals(unreachable, heard.one<Update.DeviceUnreachable>())
            val rejected = heard.one<Update.DeviceRejected>()
            assertEquals("@carol:example.org" to "OLM", rejected.userId to rejected.deviceId)
            assertEquals("no_credential", rejected.code)
            assertEquals(1, room.members().size)
            heard.close()
        }
    }

    @Test
    fun `an identity is read, told when it changes, and accepted`() = test {
        val bob = "@bob:example.org"
        val (first, second) = "A".repeat(43) to "B".repeat(42) + "A"
        var master = first
        val homeserver = Transport { request ->
            when {
                request.path.contains("/keys/query") -> {
                    val key = JSONObject().put("user_id", bob).put("usage", JSONArray().put("master"))
                        .put("keys", JSONObject().put("ed25519:$master", master))
                    val answer = JSONObject().put("device_keys", JSONObject()).put("master_keys", JSONObject().put(bob, key))
                    Answer(200, answer.toString().toByteArray())
                }
                request.path.contains("/members") -> Answer(200, members("@alice:example.org", bob).toByteArray())
                else -> accepting.send(request)
            }
        }
        val strict = config(directory.resolve("alice")).copy(memberPolicy = MemberPolicy.CROSS_SIGNED)
        MlsMachine.open(strict).use { machine ->
            val heard = Heard(machine)
            val room = machine.enableAlone("!room:example.org")
            room.doubtMembers()
            machine.prepare(room, homeserver)
            assertEquals(Verdict.VERIFIED, room.members().single().verdict)
            val identity = checkNotNull(machine.userIdentity(bob))
            assertEquals(first to first, identity.masterKey to identity.pinnedMasterKey)
            assertFalse(identity.hasChanged)
            assertNull(machine.userIdentity("@alice:example.org"))
            master = second
            machine.doubtDeviceLists()
            machine.prepare(room, homeserver)
            assertEquals(Update.IdentityChanged(bob), heard.one<Update.IdentityChanged>())
            assertTrue(machine.userIdentity(bob)!!.hasChanged)
            fails(MlsException.InvalidInput::class, "other_identity") { machine.acceptIdentity(bob, first) }
            machine.acceptIdentity(bob, second)
            assertEquals(second, machine.userIdentity(bob)!!.pinnedMasterKey)
            heard.close()
        }
    }

    @Test
    fun `whoever was away tells how far it has come`() = test {
        val (alice, bob) = account("alice") to account("bob")
        val roomId = roomOf(alice, bob)
        assertEquals(100_000u to false, RoomSettings().run { catchUpEvents to refuseLateMessages })
        repeat(100) { alice.commit(roomId) }
        alice.send(roomId, "the last of it")
        val heard = Heard(bob.machine)
        val newest = alice.encryptedEvents(roomId).last()
        bob.machine.room(roomId).receiveEvents(listOf(newest.toString()))
        settle(bob)
        val progress = heard.one<Update.CatchingUp>()
        assertEquals(roomId, progress.roomId)
        assertTrue(progress.done > 0u && progress.total!! >= progress.done, progress.toString())
        assertEquals(alice.head(roomId).id, bob.head(roomId).id)
        heard.close()
        close(alice, bob)
    }

    @Test
    fun `when too much waits, that is told`() = test {
        val (alice, bob) = account("alice") to account("bob")
        val roomId = roomOf(alice, bob)
        alice.machine.room(roomId).rotateKeys()
        alice.send(roomId, "too early")
        val event = alice.encryptedEvents(roomId).last()
        val heard = Heard(bob.machine)
        // Together more than is kept, and none of them readable yet.
        val events = (0 until 2).map { number ->
            JSONObject(event.toString()).put("event_id", "${'$'}copy-$number")
                .put("unsigned", JSONObject().put("padding", "x".repeat(8_500_000))).toString()
        }
        val results = bob.machine.room(roomId).receiveEvents(events)
        assertTrue(results.all { it.outcome is EventOutcome.Waiting }, results.map { it.outcome }.toString())
        assertEquals(Update.EventsDropped(roomId, 1u), heard.one<Update.EventsDropped>())
        heard.close()
        alice.close()
        bob.close()
    }

    @Test
    fun `a clock that is off is told, and that it is right again`() = test {
        open(directory.resolve("alice")).use { machine ->
            val heard = Heard(machine)
            for (hours in listOf(3L, 0L)) {
                // By the homeserver's clock it took this device's message an hour ago.
                val homeserver = System.currentTimeMillis() - hours * 3_600_000
                val stamp = JSONObject().put("age", 3_600_000).put("transaction_id", "one")
                val event = JSONObject().put("type", "m.room.message").put("event_id", "${'$'}own")
                    .put("sender", machine.userId()).put("content", JSONObject())
                    .put("origin_server_ts", homeserver - 3_600_000).put("unsigned", stamp)
                val room = JSONObject().put("timeline", JSONObject().put("events", JSONArray().put(event)))
                val rooms = JSONObject().put("join", JSONObject().put("!room:example.org", room))
                val sync = JSONObject().put("next_batch", "two").put("rooms", rooms)
                machine.receiveSync(syncChangesFromResponse(sync.toString(), since = null))
                assertEquals(hours, heard.one<Update.ClockOff>().aheadMs / 3_600_000)
                heard.updates.clear()
            }
            heard.close()
        }
    }
}
