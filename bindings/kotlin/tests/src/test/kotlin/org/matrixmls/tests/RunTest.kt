/** The whole loop as one call: syncing, sending, going on after a failure, and ending. */
package org.matrixmls.tests

import java.io.IOException
import java.nio.file.Path
import java.util.concurrent.ConcurrentLinkedQueue
import java.util.concurrent.atomic.AtomicInteger
import kotlin.time.Duration.Companion.days
import kotlin.time.Duration.Companion.milliseconds
import kotlinx.coroutines.CompletableDeferred
import kotlinx.coroutines.CoroutineStart
import kotlinx.coroutines.async
import kotlinx.coroutines.awaitCancellation
import kotlinx.coroutines.cancelAndJoin
import kotlinx.coroutines.channels.Channel
import kotlinx.coroutines.delay
import kotlinx.coroutines.launch
import org.json.JSONObject
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertNotNull
import org.junit.jupiter.api.Assertions.assertNull
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Test
import org.junit.jupiter.api.io.TempDir
import org.matrixmls.Answer
import org.matrixmls.BackupState
import org.matrixmls.MlsException
import org.matrixmls.RecoveryKey
import org.matrixmls.RequestOutcome
import org.matrixmls.RestoreScope
import org.matrixmls.Restoring
import org.matrixmls.RoomSettings
import org.matrixmls.SyncChanges
import org.matrixmls.SyncSource
import org.matrixmls.SyncSummary
import org.matrixmls.Transport
import org.matrixmls.createBackup
import org.matrixmls.drive
import org.matrixmls.keepHistory
import org.matrixmls.keptFor
import org.matrixmls.restoreBackup
import org.matrixmls.restoring
import org.matrixmls.retryAfter
import org.matrixmls.rotateAfter
import org.matrixmls.rotatedAfter
import org.matrixmls.run
import org.matrixmls.sample.MatrixClient
import org.matrixmls.sample.backUp
import org.matrixmls.use
import org.matrixmls.waitForChange
import org.matrixmls.withHistoryFor
import kotlinx.coroutines.flow.toList

class RunTest {
    @TempDir
    lateinit var directory: Path

    private suspend fun MatrixClient.drive() = machine.drive(transport)

    @Test
    fun `two devices that run talk, and each hears the other`() = test {
        val (alice, bob) = account("alice") to account("bob")
        val roomId = alice.createRoom(listOf(bob.userId))
        bob.join(roomId)
        alice.settle()
        alice.enable(roomId)
        val (hers, his) = Channel<String>(Channel.UNLIMITED) to Channel<String>(Channel.UNLIMITED)
        val jobs = listOf(
            launch { alice.run { hers.send(JSONObject(it.content).getString("body")) } },
            launch { bob.run { his.send(JSONObject(it.content).getString("body")) } },
        )
        repeat(3) { round ->
            alice.send(roomId, "to Bob $round")
            while (his.receive() != "to Bob $round") Unit
            bob.send(roomId, "to Alice $round")
            while (hers.receive() != "to Alice $round") Unit
        }
        // Other clients see that the room is encrypted.
        val encryption = bob.events(roomId).filter { it.getString("type") == "m.room.encryption" }
        assertEquals(1, encryption.size)
        jobs.forEach { it.cancelAndJoin() }
        close(alice, bob)
    }

    /** A source of syncs that are made up: numbers, or what it throws. */
    private class Source(private val next: suspend (Int) -> SyncChanges) : SyncSource {
        val asked = AtomicInteger()
        val received = ConcurrentLinkedQueue<String>()

        override suspend fun next(): SyncChanges = next(asked.incrementAndGet())

        override suspend fun received(changes: SyncChanges, summary: SyncSummary) {
            received += changes.nextBatch
        }
    }

    @Test
    fun `without a network it waits and goes on`() = test {
        open(directory).use { machine ->
            val isOffline = java.util.concurrent.atomic.AtomicBoolean(true)
            val transport = Transport { request ->
                if (isOffline.get()) throw IOException("no network")
                accepting.send(request)
            }
            val source = Source { asked ->
                when {
                    asked == 1 -> throw IOException("no network")
                    asked == 2 -> {
                        isOffline.set(false)
                        sync().copy(nextBatch = "second")
                    }
                    else -> awaitCancellation()
                }
            }
            val job = launch { machine.run(transport, source) }
            while (machine.outgoingRequests().isNotEmpty() || source.received.isEmpty()) delay(5)
            assertEquals(listOf("second"), source.received.toList())
            assertNull(machine.pendingRequests().retryAfter)
            job.cancelAndJoin()
            assertTrue(job.isCancelled)
        }
    }

    @Test
    fun `what ends it is told`() = test {
        open(directory).use { machine ->
            val refusing = Transport { Answer(401, """{"errcode":"M_UNKNOWN_TOKEN","error":"gone"}""".toByteArray()) }
            fails(MlsException.Unauthorized::class, "unauthorized") { machine.run(refusing, Source { awaitCancellation() }) }
            val failure = runCatching { machine.run(accepting, Source { error("the app's own") }) }.exceptionOrNull()
            assertEquals("the app's own", failure?.message)
            val running = async(start = CoroutineStart.UNDISPATCHED) {
                fails(MlsException.Suspended::class, "suspended") { machine.run(accepting, Source { awaitCancellation() }) }
            }
            machine.suspend()
            running.await()
            machine.resume()
            val shut = async(start = CoroutineStart.UNDISPATCHED) {
                fails(MlsException.Closed::class, "closed") { machine.run(accepting, Source { awaitCancellation() }) }
            }
            machine.shutdown()
            shut.await()
        }
    }

    @Test
    fun `two that drive at once send nothing twice, and both end with nothing left`() = test {
        open(directory).use { machine ->
            val sent = ConcurrentLinkedQueue<String>()
            val gate = CompletableDeferred<Unit>()
            val transport = Transport { request ->
                sent += request.id
                gate.await()
                accepting.send(request)
            }
            machine.room("!room:example.org").enable(RoomSettings())
            val both = List(2) { async { machine.drive(transport) } }
            while (sent.isEmpty()) delay(1)
            // Time enough for the other to send the same.
            delay(100)
            assertEquals(1, sent.size)
            gate.complete(Unit)
            val driven = both.map { it.await() }
            assertEquals(sent.toSet().size, sent.size, sent.toString())
            assertEquals(sent.size, driven.sumOf { it.accepted + it.refused.size })
            assertTrue(machine.outgoingRequests().isEmpty())
            // One that is cancelled while it sends leaves the request to the other.
            machine.room("!other:example.org").enable(RoomSettings())
            val stuck = launch { machine.drive { awaitCancellation() } }
            delay(50)
            val other = async { machine.drive(accepting) }
            stuck.cancelAndJoin()
            assertTrue(other.await().accepted > 0)
        }
    }

    @Test
    fun `a recovery key is given once the homeserver has the backup, and none where there is one`() = test {
        val alice = account("alice")
        val key = alice.machine.createBackup(alice.transport)
        alice.machine.backup().use { backup ->
            assertTrue(backup.state() is BackupState.Enabled)
            assertEquals(key.text(), backup.recoveryKey()?.use { it.text() })
        }
        val laptop = anotherDevice(alice, "LAPTOP")
        fails(MlsException.InvalidInput::class, "backup_exists") { laptop.machine.createBackup(laptop.transport) }
        assertTrue(laptop.machine.backup().use { it.state() } is BackupState.Locked)
        val next = laptop.machine.createBackup(laptop.transport, replace = true)
        assertTrue(next.text() != key.text())
        val refusing = Transport { request ->
            val refusal = """{"errcode":"M_FORBIDDEN","error":"not yours"}"""
            if (request.path.contains("room_keys")) Answer(403, refusal.toByteArray()) else laptop.transport.send(request)
        }
        fails(MlsException.Rejected::class, "M_FORBIDDEN") { laptop.machine.createBackup(refusing, replace = true) }
        key.close()
        next.close()
        close(alice, laptop)
    }

    @Test
    fun `a restore ends or fails, whatever happens`() = test {
        val (alice, bob) = account("alice") to account("bob")
        val roomId = roomOf(alice, bob)
        alice.send(roomId, "hello")
        val text = alice.backUp()
        val phone = anotherDevice(alice, "NEWPHONE")
        val machine = phone.machine
        RecoveryKey.generate().use { wrong ->
            fails(MlsException.InvalidInput::class, "wrong_key") { machine.restoreBackup(phone.transport, wrong) }
        }
        RecoveryKey.parse(text).use { key ->
            val unauthorized = Transport { Answer(401, """{"errcode":"M_UNKNOWN_TOKEN"}""".toByteArray()) }
            fails(MlsException.Unauthorized::class, "unauthorized") { machine.restoreBackup(unauthorized, key) }
            val refusing = Transport { Answer(403, """{"errcode":"M_FORBIDDEN"}""".toByteArray()) }
            fails(MlsException.Rejected::class, "M_FORBIDDEN") { machine.restoreBackup(refusing, key) }
            val offline = launch { machine.restoreBackup({ throw IOException("no network") }, key) }
            delay(50)
            offline.cancelAndJoin()
            machine.networkAvailable()
            val progress = ConcurrentLinkedQueue<ULong>()
            val restored = machine.restoreBackup(phone.transport, key) { done, _ -> progress += done }
            assertTrue(restored.epochs > 0u && progress.isNotEmpty(), restored.toString())
            // As a flow, which drives too.
            val steps = machine.restoring(phone.transport, key, RestoreScope.AllRooms).toList()
            assertTrue(steps.first() is Restoring.Begun && steps.last() is Restoring.Finished, steps.toString())
            alice.machine.backup().use { it.delete() }
            alice.drive()
            fails(MlsException.InvalidInput::class, "no_backup") { machine.restoreBackup(phone.transport, key) }
            val shut = async(start = CoroutineStart.UNDISPATCHED) {
                fails(MlsException.Closed::class, "closed") { machine.restoreBackup({ awaitCancellation() }, key) }
            }
            delay(50)
            machine.shutdown()
            shut.await()
        }
        close(alice, bob)
    }

    @Test
    fun `times are durations`() = test {
        val settings = RoomSettings().rotatedAfter(3.days).keptFor(2.days).withHistoryFor(30.days)
        assertEquals(listOf(3.days, 2.days, 30.days), listOf(settings.rotateAfter, settings.keptFor, settings.keepHistory))
        assertEquals(RoomSettings(), settings.withHistoryFor(null).rotatedAfter(RoomSettings().rotateAfter).keptFor(RoomSettings().keptFor))
        assertEquals(7.milliseconds, RequestOutcome.RetryLater(7u).retryAfter)
        open(directory).use { machine ->
            machine.waitForChange(1.milliseconds)
            assertNotNull(machine.pendingRequests())
        }
    }
}
