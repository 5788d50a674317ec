/** Opening, closing, giving up and freeing. */
package org.matrixmls.tests

import java.lang.ref.WeakReference
import java.nio.file.Files
import java.nio.file.Path
import kotlin.io.path.listDirectoryEntries
import kotlin.io.path.readLines
import kotlin.io.path.readSymbolicLink
import kotlinx.coroutines.CancellationException
import kotlinx.coroutines.CompletableDeferred
import kotlinx.coroutines.CoroutineStart
import kotlinx.coroutines.async
import kotlinx.coroutines.cancelAndJoin
import kotlinx.coroutines.delay
import kotlinx.coroutines.launch
import org.json.JSONObject
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertFalse
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Test
import org.junit.jupiter.api.io.TempDir
import org.matrixmls.MlsException
import org.matrixmls.MlsMachine
import org.matrixmls.MlsReader
import org.matrixmls.RollbackGuard
import org.matrixmls.RoomSettings
import org.matrixmls.StoreKey
import org.matrixmls.drive
import org.matrixmls.encrypt
import org.matrixmls.markRequestAsSent
import org.matrixmls.use

/** What an app keeps outside the store. */
private class Count : RollbackGuard {
    @Volatile
    var count: ULong? = null

    override fun load(): ULong? = count

    override fun store(count: ULong) {
        this.count = count
    }
}

class LifecycleTest {
    @TempDir
    lateinit var directory: Path

    @Test
    fun `a machine goes on where it was closed`() = test {
        val requests = open(directory).use { it.outgoingRequests() }
        assertEquals(1, requests.size)
        open(directory).use { machine ->
            val again = machine.outgoingRequests().single()
            assertEquals(requests.single().id, again.id)
            assertTrue(requests.single().body.contentEquals(again.body), "the same to the byte")
            assertEquals("@alice:example.org" to "PHONE", machine.userId() to machine.deviceId())
        }
    }

    @Test
    fun `a store that is behind the app's count seals nothing with what it holds`() = test {
        val kept = Count()
        MlsMachine.openGuarded(config(directory), kept).use { machine ->
            machine.enableAlone("!room:example.org").encrypt("m.text", "{}")
        }
        assertEquals(1uL, kept.count)
        // Level with the store, and then ahead of it, as when an older copy was brought back.
        MlsMachine.openGuarded(config(directory), kept).use { machine ->
            machine.room("!room:example.org").encrypt("m.text", "{}")
        }
        assertEquals(2uL, kept.count)
        kept.count = 9uL
        MlsMachine.openGuarded(config(directory), kept).use { machine ->
            val room = machine.room("!room:example.org")
            fails(MlsException.NotReady::class, "not_ready") { room.encrypt("m.text", "{}") }
        }
        // What a guard throws changes nothing.
        val broken = object : RollbackGuard {
            override fun load(): ULong? = error("the app's own")
            override fun store(count: ULong): Unit = error("the app's own")
        }
        MlsMachine.openGuarded(config(directory), broken).use { assertEquals("PHONE", it.deviceId()) }
    }

    @Test
    fun `use closes the store, whatever happens and whoever holds a room`() = test {
        val machine = open(directory)
        val room = machine.room("!room:example.org")
        val failure = runCatching { machine.use { error("the app's own") } }.exceptionOrNull()
        assertEquals("the app's own", failure?.message)
        fails(MlsException.Closed::class, "closed") { room.isEnabled() }
        val opened = CompletableDeferred<Unit>()
        val job = launch {
            open(directory).use {
                opened.complete(Unit)
                delay(Long.MAX_VALUE)
            }
        }
        opened.await()
        fails(MlsException.StoreInUse::class, "store_in_use") { open(directory) }
        job.cancelAndJoin()
        open(directory).use { }
    }

    @Test
    fun `Kotlin's own use does not fit a machine`() = test {
        // It would give the handle back, and leave the store open as long as a room is held.
        open(directory).use { machine ->
            val held: Any = machine
            assertFalse(held is AutoCloseable)
            assertTrue(machine.backup() is AutoCloseable)
        }
    }

    @Test
    fun `a suspended machine lets go of the store, refuses every call and comes back`() = test {
        open(directory).use { machine ->
            val room = machine.enableAlone("!room:example.org")
            val reader = MlsReader.open(directory.toString(), KEY)
            machine.suspend()
            reader.suspend()
            val here = Path.of("/proc/self/fd").listDirectoryEntries()
                .mapNotNull { runCatching { it.readSymbolicLink() }.getOrNull() }
            assertEquals(emptyList<Path>(), here.filter { it.startsWith(directory) })
            fails(MlsException.Suspended::class, "suspended") { machine.outgoingRequests() }
            fails(MlsException.Suspended::class, "suspended") { machine.drive(accepting) }
            fails(MlsException.Suspended::class, "suspended") { room.encrypt("m.room.message", "{}") }
            fails(MlsException.Suspended::class, "suspended") { reader.decrypt("!room:example.org", "{}") }
            open(directory).use { fails(MlsException.StoreInUse::class, "store_in_use") { machine.resume() } }
            machine.resume()
            reader.resume()
            reader.close()
            machine.encrypt(room, "m.room.message", "{}", accepting)
        }
    }

    @Test
    fun `memory is let go, and a room goes on`() = test {
        val machine = open(directory)
        val room = machine.enableAlone("!room:example.org")
        repeat(2) {
            machine.encrypt(room, "m.room.message", "{}", accepting)
            room.rotateKeys()
            machine.releaseMemory()
        }
        machine.encrypt(room, "m.room.message", "{}", accepting)
        machine.shutdown()
        fails(MlsException.Closed::class, "closed") { machine.releaseMemory() }
    }

    @Test
    fun `a loop that waits ends when the machine is suspended`() = test {
        open(directory).use { machine ->
            val id = machine.outgoingRequests().single().id
            repeat(8) { machine.markRequestAsSent(id, 0, ByteArray(0)) }
            val driving = async(start = CoroutineStart.UNDISPATCHED) {
                fails(MlsException.Suspended::class, "suspended") { machine.drive(accepting) }
            }
            delay(50)
            machine.suspend()
            driving.await()
            machine.resume()
            machine.networkAvailable()
            assertEquals(2, machine.drive(accepting).accepted)
            // Nothing may have changed, and then it ends by itself.
            machine.waitForChange(1u)
        }
    }

    @Test
    fun `the key can be changed, and the old one opens nothing`() = test {
        open(directory).use { it.changeStoreKey(StoreKey.Passphrase("correct horse")) }
        fails(MlsException.StoreWrongKey::class, "store_wrong_key") { open(directory) }
        open(directory, StoreKey.Passphrase("correct horse")).use { it.changeStoreKey(StoreKey.Unprotected) }
        open(directory, StoreKey.Unprotected).use { }
    }

    @Test
    fun `a call that is cancelled leaves the store sound`() = test {
        val client = account("alice")
        val roomId = client.createRoom(emptyList())
        client.settle()
        client.enable(roomId)
        val (room, userId) = client.machine.room(roomId) to client.userId
        var given = 0
        repeat(200) { round ->
            val job = launch(start = CoroutineStart.UNDISPATCHED) {
                when (round % 4) {
                    0 -> room.rotateKeys()
                    1 -> room.prepareToSend()
                    2 -> client.machine.outgoingRequests()
                    else -> room.setMembers(listOf(client.userId))
                }
            }
            job.cancelAndJoin()
            if (job.isCancelled) given++
        }
        assertTrue(given > 0, "no call was cancelled half-way")
        client.send(roomId, "after all that")
        assertEquals("after all that", JSONObject(client.history(roomId).last().message!!.content).getString("body"))
        val event = client.encryptedEvents(roomId).last()
        client.close()
        MlsMachine.open(config(client.store, userId = userId)).use { machine ->
            assertTrue(machine.room(roomId).decrypt(event.toString()).content.contains("after all that"))
        }
    }

    @Test
    fun `cancelling is told as cancelling, not as an error of ours`() = test {
        val machine = open(directory)
        var seen: Throwable? = null
        val job = launch(start = CoroutineStart.UNDISPATCHED) {
            try {
                machine.receiveSync(sync())
                delay(Long.MAX_VALUE)
            } catch (error: Throwable) {
                seen = error
                throw error
            }
        }
        job.cancelAndJoin()
        assertTrue(seen is CancellationException, seen.toString())
        machine.shutdown()
    }

    @Test
    fun `ten thousand messages and five hundred openings leave nothing behind`() = test {
        val machine = open(directory)
        val room = machine.enableAlone("!room:example.org", RoomSettings(rotateAfterMessages = UInt.MAX_VALUE))
        suspend fun rounds(count: Int) = repeat(count) { round ->
            val content = JSONObject(room.encrypt("m.room.message", """{"body":"$round"}"""))
            val event = JSONObject().put("type", "m.room.encrypted").put("sender", machine.userId()).put("content", content)
            assertEquals("""{"body":"$round"}""", room.decrypt(event.toString()).content)
        }
        rounds(2_000)
        val before = resident()
        rounds(10_000)
        val grown = resident() - before
        assertTrue(grown < 64_000, "10,000 messages cost $grown KiB")
        machine.shutdown()

        suspend fun openings(count: Int) = repeat(count) {
            open(directory).use { machine -> machine.room("!room:example.org").close() }
        }
        openings(100)
        val (files, threads, memory) = Triple(openFiles(), threads(), resident())
        openings(500)
        assertTrue(openFiles() <= files + 20, "files open: $files, then ${openFiles()}")
        assertTrue(threads() <= threads + 20, "threads: $threads, then ${threads()}")
        assertTrue(resident() - memory < 64_000, "500 openings cost ${resident() - memory} KiB")
    }

    @Test
    fun `what nobody holds is freed`() = test {
        val references = ArrayList<WeakReference<Any>>()
        suspend fun hold() {
            val machine = open(directory)
            references += WeakReference<Any>(machine)
            references += WeakReference<Any>(machine.room("!room:example.org"))
        }
        hold()
        while (references.any { it.get() != null }) {
            System.gc()
            delay(10)
        }
        // The engine went with its last handle: the store can be opened though nobody closed it.
        var machine: MlsMachine? = null
        while (machine == null) {
            machine = try {
                open(directory)
            } catch (_: MlsException.StoreInUse) {
                delay(10)
                null
            }
        }
        machine.shutdown()
        assertFalse(references.isEmpty())
    }

    private fun status(name: String): Long = Path.of("/proc/self/status").readLines()
        .first { it.startsWith("$name:") }.filter(Char::isDigit).toLong()

    private fun resident(): Long {
        System.gc()
        return status("VmRSS")
    }

    private fun threads(): Long = status("Threads")

    private fun openFiles(): Int = Path.of("/proc/self/fd").listDirectoryEntries().size
}
