/** Calls from Rust into Kotlin: updates, logs, and what happens when the app's code fails. */
package org.matrixmls.tests

import java.nio.file.Path
import java.util.concurrent.ConcurrentLinkedQueue
import kotlinx.coroutines.CoroutineStart
import kotlinx.coroutines.async
import kotlinx.coroutines.cancelAndJoin
import kotlinx.coroutines.delay
import kotlinx.coroutines.flow.first
import kotlinx.coroutines.flow.toList
import kotlinx.coroutines.launch
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertFalse
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Test
import org.junit.jupiter.api.io.TempDir
import org.matrixmls.LogLevel
import org.matrixmls.LogSink
import org.matrixmls.RoomChanges
import org.matrixmls.Update
import org.matrixmls.UpdateObserver
import org.matrixmls.setLogSink
import org.matrixmls.updates
import org.matrixmls.use

class WatchingTest {
    @TempDir
    lateinit var directory: Path

    private val roomId = "!room:example.org"

    private class Recorder(val fails: Boolean = false) : UpdateObserver {
        val heard = ConcurrentLinkedQueue<Update>()
        val threads = ConcurrentLinkedQueue<String>()
        @Volatile var ended = false

        override fun onUpdate(update: Update) {
            heard += update
            threads += Thread.currentThread().name
            check(!fails) { "the app's own failure" }
        }

        override fun onEnd() {
            ended = true
        }

        suspend fun awaitFirst(): Update {
            while (heard.isEmpty()) delay(1)
            return heard.first()
        }

        suspend fun awaitEnd() {
            while (!ended) delay(1)
        }
    }

    @Test
    fun `what happens while an app looks is not missed`() = test {
        open(directory).use { machine ->
            val heard = machine.updates(onSubscribed = { machine.enableAlone(roomId) }).first()
            assertEquals(Update.Joined(roomId, 0u), heard)
        }
    }

    @Test
    fun `updates come on a thread of Rust's until the subscription is stopped`() = test {
        val machine = open(directory)
        val (kept, stopped) = Recorder() to Recorder()
        val subscription = machine.subscribe(kept)
        machine.subscribe(stopped).stop()
        stopped.awaitEnd()
        machine.enableAlone(roomId)
        assertEquals(Update.Joined(roomId, 0u), kept.awaitFirst())
        assertTrue(stopped.heard.isEmpty())
        assertFalse(kept.threads.any { it.startsWith("DefaultDispatcher") }, kept.threads.toString())
        machine.shutdown()
        kept.awaitEnd()
        subscription.stop()
        subscription.close()
    }

    @Test
    fun `an observer that throws hears the next update and harms nobody`() = test {
        val machine = open(directory)
        val failing = Recorder(fails = true)
        val subscription = machine.subscribe(failing)
        for (name in listOf("!a:example.org", "!b:example.org")) {
            machine.enableAlone(name)
        }
        while (failing.heard.size < 2) delay(1)
        assertEquals(2, machine.rooms().size)
        machine.shutdown()
        failing.awaitEnd()
        subscription.close()
    }

    @Test
    fun `updates are a flow that ends with the machine`() = test {
        val machine = open(directory)
        val all = async(start = CoroutineStart.UNDISPATCHED) { machine.updates().toList() }
        val cancelled = launch(start = CoroutineStart.UNDISPATCHED) { machine.updates().collect { } }
        val first = async(start = CoroutineStart.UNDISPATCHED) { machine.updates().first() }
        // Subscribing is a call of its own; each enabled room is heard by whoever is there by then.
        var rooms = 0
        while (!first.isCompleted) {
            machine.enableAlone("!room${rooms++}:example.org")
            delay(1)
        }
        assertTrue(first.await() is Update.Joined)
        cancelled.cancelAndJoin()
        machine.shutdown()
        assertTrue(all.await().isNotEmpty())
    }

    @Test
    fun `logs reach the sink, and one that throws stops nothing`() = test {
        val lines = ConcurrentLinkedQueue<String>()
        setLogSink(LogLevel.DEBUG, object : LogSink {
            override fun onLog(level: LogLevel, target: String, message: String) {
                lines += "$level $target $message"
                error("the app's own failure")
            }
        })
        val machine = open(directory)
        val changes = sync(rooms = listOf(RoomChanges("no room", limited = false)))
        machine.receiveSync(changes)
        setLogSink(LogLevel.DEBUG, null)
        val seen = lines.size
        machine.receiveSync(changes)
        machine.shutdown()
        assertTrue(lines.any { it.contains("matrix_mls") }, lines.toString())
        assertEquals(seen, lines.size, "nobody listens any more")
    }
}
