/** The loop between the engine and the network, against a homeserver that is made up here. */
package org.matrixmls.tests

import java.io.IOException
import java.nio.file.Path
import java.util.concurrent.ConcurrentLinkedQueue
import java.util.concurrent.atomic.AtomicInteger
import kotlinx.coroutines.CoroutineStart
import kotlinx.coroutines.async
import kotlinx.coroutines.awaitCancellation
import kotlinx.coroutines.cancelAndJoin
import kotlinx.coroutines.delay
import kotlinx.coroutines.launch
import kotlinx.coroutines.withTimeout
import org.json.JSONObject
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Test
import org.junit.jupiter.api.io.TempDir
import org.matrixmls.Answer
import org.matrixmls.EventOutcome
import org.matrixmls.MlsException
import org.matrixmls.MlsMachine
import org.matrixmls.OutgoingRequest
import org.matrixmls.RequestKind
import org.matrixmls.RequestOutcome
import org.matrixmls.RoomSettings
import org.matrixmls.SendPlan
import org.matrixmls.Transport
import org.matrixmls.Update
import org.matrixmls.drive
import org.matrixmls.encrypt
import org.matrixmls.markRequestAsSent
import org.matrixmls.prepare
import org.matrixmls.use

class DriveTest {
    @TempDir
    lateinit var directory: Path

    /** What a homeserver says to an upload of keys, and to the question that comes before it. */
    private val ok = Answer(200, """{"one_time_key_counts":{},"device_keys":{}}""".toByteArray())

    private class Script(private vararg val answers: suspend () -> Answer) : Transport {
        val seen = ConcurrentLinkedQueue<OutgoingRequest>()
        private val at = AtomicInteger()

        override suspend fun send(request: OutgoingRequest): Answer {
            seen += request
            return answers[at.getAndIncrement().coerceAtMost(answers.size - 1)]()
        }
    }

    @Test
    fun `what was put off is sent again when the homeserver said, and what fails is repeated to the byte`() = test {
        open(directory).use { machine ->
            val script = Script(
                { Answer(429, """{"errcode":"M_LIMIT_EXCEEDED","retry_after_ms":30}""".toByteArray()) },
                { throw IOException("no network") },
                { ok },
            )
            val driven = machine.drive(script)
            assertEquals(2 to 0, driven.accepted to driven.refused.size)
            assertEquals(4, script.seen.size, "the question three times, and the upload")
            assertEquals(2, script.seen.map { it.id to it.body.toList() }.distinct().size)
            assertEquals("POST" to "application/json", script.seen.first().method to script.seen.first().contentType)
            assertEquals(0, machine.drive(script).accepted)
        }
    }

    @Test
    fun `what became of a request is told`() = test {
        open(directory).use { machine ->
            suspend fun mark(status: Int, body: String): RequestOutcome {
                while (machine.outgoingRequests().isEmpty()) delay(1)
                return machine.markRequestAsSent(machine.outgoingRequests().first().id, status, body.toByteArray())
            }
            assertEquals(RequestOutcome.RetryLater(7u), mark(429, """{"retry_after_ms":7}"""))
            repeat(2) { assertEquals(RequestOutcome.Accepted, mark(200, ok.body.decodeToString())) }
            machine.room("!room:example.org").enable(RoomSettings())
            val refused = mark(403, """{"errcode":"M_FORBIDDEN","error":"not yours"}""")
            assertEquals(RequestOutcome.Refused("M_FORBIDDEN", "not yours"), refused)
        }
    }

    @Test
    fun `of several that were put off each is sent when it is due`() = test {
        open(directory).use { machine ->
            machine.drive(Script({ ok }))
            for (name in listOf("!a:example.org", "!b:example.org")) machine.room(name).enable(RoomSettings())
            fun later(ms: Int) = Answer(429, """{"retry_after_ms":$ms}""".toByteArray())
            val taken = Answer(200, """{"event_id":"${'$'}x"}""".toByteArray())
            val script = Script({ later(150) }, { later(20) }, { taken })
            val driven = machine.drive(script)
            assertTrue(driven.accepted >= 2, driven.toString())
            assertEquals(driven.accepted, script.seen.map { it.id }.distinct().size, "none was left")
            assertTrue(machine.outgoingRequests().isEmpty())
        }
    }

    @Test
    fun `a refusal is told and not repeated without end`() = test {
        open(directory).use { machine ->
            machine.drive(Script({ ok }))
            machine.room("!room:example.org").enable(RoomSettings())
            val heard = Heard(machine)
            val script = Script({ Answer(403, """{"errcode":"M_FORBIDDEN","error":"not yours"}""".toByteArray()) })
            val refused = machine.drive(script).refused
            assertTrue(refused.any { it.code == "M_FORBIDDEN" && it.reason == "not yours" }, refused.toString())
            val told = Update.RequestRefused(RequestKind.ENABLE_ENCRYPTION, "!room:example.org", "M_FORBIDDEN", "not yours")
            assertEquals(told, heard.one<Update.RequestRefused>())
            heard.close()
        }
    }

    @Test
    fun `cancelled while it waits, it ends, and the request is still there`() = test {
        open(directory).use { machine ->
            val script = Script({ Answer(429, """{"retry_after_ms":3600000}""".toByteArray()) })
            val job = launch(start = CoroutineStart.UNDISPATCHED) { machine.drive(script) }
            // Seen by the transport is not yet put off: the answer has to be taken first.
            while (script.seen.isEmpty() || machine.outgoingRequests().isNotEmpty()) delay(1)
            assertTrue(job.isActive)
            job.cancelAndJoin()
            assertTrue(machine.outgoingRequests().isEmpty(), "not before it is due")
            assertEquals(1, script.seen.size)
        }
        open(directory).use { assertTrue(it.rooms().isEmpty()) }
    }

    @Test
    fun `cancelled while it sends, the request is handed out again`() = test {
        open(directory).use { machine ->
            val script = Script({ awaitCancellation() })
            val job = launch(start = CoroutineStart.UNDISPATCHED) { machine.drive(script) }
            while (script.seen.isEmpty()) delay(1)
            job.cancelAndJoin()
            assertEquals(script.seen.single().id, machine.outgoingRequests().single().id)
        }
    }

    @Test
    fun `without a homeserver's answer prepare waits as the plan says`() = test {
        open(directory).use { machine ->
            machine.drive(Script({ ok }))
            val room = machine.room("!room:example.org")
            room.enable(RoomSettings())
            val script = Script({ throw IOException("no network") })
            val job = launch(start = CoroutineStart.UNDISPATCHED) { machine.prepare(room, script) }
            while (script.seen.isEmpty()) delay(1)
            job.cancelAndJoin()
            val plan = room.prepareToSend() as SendPlan.Waiting
            for (request in plan.requests) {
                val outcome = machine.markRequestAsSent(request.id, 0, ByteArray(0))
                assertTrue(outcome is RequestOutcome.RetryLater && outcome.afterMs >= 1_000u, outcome.toString())
            }
        }
    }

    /** A homeserver that takes everything but what is sent to one path, which is put off for an hour. */
    private class HourLong(val part: String) : Transport {
        val putOff = ConcurrentLinkedQueue<OutgoingRequest>()

        override suspend fun send(request: OutgoingRequest): Answer {
            if (!request.path.contains(part)) return accepting.send(request)
            putOff += request
            return Answer(429, """{"errcode":"M_LIMIT_EXCEEDED","retry_after_ms":3600000}""".toByteArray())
        }
    }

    @Test
    fun `what prepare waits for may come by sync`() = test {
        open(directory).use { machine ->
            val room = machine.enableAlone("!room:example.org")
            room.rotateKeys()
            val transport = HourLong("/send/m.room.encrypted/")
            val preparing = launch(start = CoroutineStart.UNDISPATCHED) { machine.prepare(room, transport) }
            while (transport.putOff.isEmpty()) delay(1)
            while ((room.prepareToSend() as SendPlan.Waiting).requests.isNotEmpty()) delay(1)
            val plan = room.prepareToSend() as SendPlan.Waiting
            assertTrue(plan.requests.isEmpty() && plan.retryAfterMs!! > 3_000_000u, plan.toString())
            // The commit had reached the homeserver all the same.
            val content = JSONObject(transport.putOff.single().body.decodeToString())
            val commit = JSONObject().put("type", "m.room.encrypted").put("sender", machine.userId())
                .put("event_id", "${'$'}commit").put("content", content)
            assertEquals(EventOutcome.Duplicate, room.receiveEvents(listOf(commit.toString())).single().outcome)
            preparing.join()
            assertEquals(SendPlan.Ready, room.prepareToSend())
            assertEquals(1, transport.putOff.size)
        }
    }

    @Test
    fun `what is queued while drive waits for something else is sent`() = test {
        open(directory).use { machine ->
            val transport = HourLong("/keys/upload")
            val driving = launch(start = CoroutineStart.UNDISPATCHED) { machine.drive(transport) }
            while (transport.putOff.isEmpty()) delay(1)
            val room = machine.room("!room:example.org")
            room.enable(RoomSettings())
            // The announcement is sent by the loop that waits.
            while (room.epochs().none { it.commitEvent != null }) delay(1)
            driving.cancelAndJoin()
            assertEquals(1, transport.putOff.size)
        }
    }

    /** Has the first request wait for long, as after a while without a network. */
    private suspend fun putOffForLong(machine: MlsMachine): String {
        val id = machine.outgoingRequests().single().id
        repeat(6) { machine.markRequestAsSent(id, 0, ByteArray(0)) }
        val pending = machine.pendingRequests()
        assertEquals(0uL to 1uL, pending.due to pending.putOff)
        assertTrue(pending.retryAfterMs!! > 20_000u, pending.toString())
        return id
    }

    @Test
    fun `drive waits for what earlier calls have put off, and ends the wait when the network is back`() = test {
        open(directory).use { machine ->
            val id = putOffForLong(machine)
            val script = Script({ ok })
            val driving = async(start = CoroutineStart.UNDISPATCHED) { machine.drive(script) }
            delay(100)
            assertTrue(driving.isActive && script.seen.isEmpty(), "it waits")
            machine.networkAvailable()
            assertEquals(2, withTimeout(10_000) { driving.await() }.accepted)
            assertEquals(id, script.seen.first().id)
            assertEquals(null, machine.pendingRequests().retryAfterMs)
        }
    }

    @Test
    fun `a refused access token ends what waits, is told once, and loses nothing`() = test {
        open(directory).use { machine ->
            val heard = Heard(machine)
            val refusal = """{"errcode":"M_UNKNOWN_TOKEN","error":"expired","soft_logout":true}"""
            val script = Script({ Answer(401, refusal.toByteArray()) })
            val id = machine.outgoingRequests().single().id
            val outcome = machine.markRequestAsSent(id, 401, refusal.toByteArray()) as RequestOutcome.Unauthorized
            assertEquals("M_UNKNOWN_TOKEN" to true, outcome.code to outcome.softLogout)
            assertTrue(outcome.afterMs > 0u)
            repeat(2) { fails(MlsException.Unauthorized::class, "unauthorized") { machine.drive(script) } }
            assertEquals(Update.Unauthorized("M_UNKNOWN_TOKEN", true), heard.one<Update.Unauthorized>())
            assertTrue(machine.pendingRequests().unauthorized)
            assertTrue(machine.outgoingRequests().isEmpty(), "no loop of an app's spins")
            machine.accessTokenRenewed()
            assertEquals(script.seen.first().id, machine.outgoingRequests().single().id)
            assertEquals(2, machine.drive(Script({ ok })).accepted)
            assertEquals(false, machine.pendingRequests().unauthorized)
            heard.close()
        }
    }

    @Test
    fun `encrypt ends when the access token is refused`() = test {
        open(directory).use { machine ->
            val room = machine.enableAlone("!room:example.org")
            room.rotateKeys()
            val script = Script({ Answer(401, """{"errcode":"M_UNKNOWN_TOKEN"}""".toByteArray()) })
            repeat(2) {
                fails(MlsException.Unauthorized::class, "unauthorized") {
                    machine.encrypt(room, "m.room.message", "{}", script)
                }
            }
            machine.encrypt(room, "m.room.message", "{}", accepting)
        }
    }

    @Test
    fun `a device whose keys are others on the homeserver uploads and sends nothing`() = test {
        open(directory).use { machine ->
            val heard = Heard(machine)
            val keys = """{"@alice:example.org":{"PHONE":{"keys":{"ed25519:PHONE":"AAAA"}}}}"""
            val script = Script({ Answer(200, """{"device_keys":$keys}""".toByteArray()) })
            assertEquals(1, machine.drive(script).accepted)
            assertTrue(script.seen.single().path.endsWith("/keys/query"), script.seen.toString())
            heard.one<Update.NewDeviceNeeded>()
            val room = machine.room("!room:example.org")
            fails(MlsException.NewDeviceNeeded::class, "other_keys") { room.enable(RoomSettings()) }
            fails(MlsException.NewDeviceNeeded::class, "other_keys") { machine.prepare(room, script) }
            heard.close()
        }
    }
}
