/** What is told of rooms and devices, but for forks and healing (see [ForksTest]). */
package org.matrixmls.tests

import java.nio.file.Path
import org.json.JSONArray
import org.json.JSONObject
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Test
import org.junit.jupiter.api.io.TempDir
import org.matrixmls.Answer
import org.matrixmls.EventOutcome
import org.matrixmls.MlsMachine
import org.matrixmls.OutgoingRequest
import org.matrixmls.ToDeviceResult
import org.matrixmls.Transport
import org.matrixmls.Update
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
        val bobsDevice = "${bob.userId}|PHONE"
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
            assertEquals(1, room.members().size)
            heard.close()
        }
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
}
