/** The mistakes of somebody who tries the library for the first time: each has a sentence that says what to do. */
package org.matrixmls.tests

import java.nio.file.Path
import kotlin.io.path.createDirectory
import kotlin.io.path.exists
import kotlin.io.path.listDirectoryEntries
import kotlin.io.path.writeText
import kotlin.reflect.KClass
import org.json.JSONArray
import org.json.JSONObject
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertFalse
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Test
import org.junit.jupiter.api.io.TempDir
import org.matrixmls.LogLevel
import org.matrixmls.LogSink
import org.matrixmls.MlsException
import org.matrixmls.MlsMachine
import org.matrixmls.RecoveryKey
import org.matrixmls.RoomSettings
import org.matrixmls.StoreKey
import org.matrixmls.createRoomBody
import org.matrixmls.drive
import org.matrixmls.reason
import org.matrixmls.restoreBackup
import org.matrixmls.retryable
import org.matrixmls.sample.backUp
import org.matrixmls.setLogSink
import org.matrixmls.syncChangesFromResponse
import org.matrixmls.use
import org.matrixmls.wipeStore

class NewcomerTest {
    @TempDir
    lateinit var directory: Path

    /** The call fails with this code, and the sentence names what to do. */
    private suspend fun <E : MlsException> says(
        variant: KClass<E>,
        code: String,
        whatToDo: String,
        block: suspend () -> Unit,
    ): E {
        val error = fails(variant, code, block)
        assertTrue(error.reason.contains(whatToDo), error.reason)
        assertEquals("$code: ${error.reason}", error.message)
        return error
    }

    @Test
    fun `a wrong store key names the right one`() = test {
        open(directory).use { }
        says(MlsException.StoreWrongKey::class, "store_wrong_key", "give the key or passphrase") {
            open(directory, StoreKey.Raw(ByteArray(32) { 8 }))
        }
    }

    @Test
    fun `a wrong user id shows the form of one`() = test {
        says(MlsException.InvalidInput::class, "bad_user_id", "@alice:example.org") {
            MlsMachine.open(config(directory, userId = "alice"))
        }
    }

    @Test
    fun `encrypting before preparing names the call`() = test {
        open(directory).use { machine ->
            val room = machine.enableAlone("!room:example.org")
            room.setMembers(listOf(machine.userId(), "@bob:example.org"))
            val error = says(MlsException.NotReady::class, "not_ready", "call prepareToSend") {
                room.encrypt("m.room.message", "{}")
            }
            assertTrue(error.retryable)
        }
    }

    @Test
    fun `a body that is no sync says what to pass in`() = test {
        for (garbage in listOf("", "<html>", "{}", """{"errcode":"M_UNKNOWN_TOKEN"}""")) {
            says(MlsException.InvalidInput::class, "bad_sync_response", "pass in the body of a sync") {
                syncChangesFromResponse(garbage, since = null)
            }
        }
    }

    @Test
    fun `requests that are never marked are warned of`() = test {
        val lines = java.util.concurrent.ConcurrentLinkedQueue<String>()
        setLogSink(LogLevel.WARN, object : LogSink {
            override fun onLog(level: LogLevel, target: String, message: String) {
                lines += message
            }
        })
        open(directory).use { machine -> repeat(6) { machine.outgoingRequests() } }
        setLogSink(LogLevel.WARN, null)
        assertTrue(lines.any { it.contains("call markRequestAsSent") }, lines.toString())
    }

    @Test
    fun `a second machine on one store is told to share the first`() = test {
        open(directory).use {
            says(MlsException.StoreInUse::class, "store_in_use", "close the machine that has it open") { open(directory) }
            says(MlsException.StoreInUse::class, "store_in_use", "close the machine") { wipeStore(directory.toString()) }
        }
    }

    @Test
    fun `after shutdown and after close each call says to open it again`() = test {
        val machine = open(directory)
        val room = machine.room("!room:example.org")
        val backup = machine.backup()
        machine.shutdown()
        says(MlsException.Closed::class, "closed", "open it again") { machine.rooms() }
        machine.close()
        room.close()
        backup.close()
        // Closing again is no mistake.
        machine.close()
        for (call in listOf<suspend () -> Unit>(
            { machine.rooms() },
            { machine.userId() },
            { machine.room("!room:example.org") },
            { machine.outgoingRequests() },
            { machine.shutdown() },
            { room.isEnabled() },
            { room.roomId() },
            { room.encrypt("m.room.message", "{}") },
            { backup.state() },
        )) {
            says(MlsException.Closed::class, "closed", "open the machine again") { call() }
        }
        val key = RecoveryKey.generate()
        key.close()
        says(MlsException.Closed::class, "closed", "RecoveryKey") { key.text() }
    }

    @Test
    fun `a room that was not enabled says to enable it`() = test {
        open(directory).use { machine ->
            machine.drive(accepting)
            val room = machine.room("!room:example.org")
            for (call in listOf<suspend () -> Unit>(
                { room.prepareToSend() }, { room.encrypt("m.room.message", "{}") }, { room.members() },
            )) {
                val error = says(MlsException.NotInGroup::class, "not_enabled", "call enable") { call() }
                assertFalse(error.retryable)
            }
        }
    }

    @Test
    fun `a Megolm event and a Megolm room belong to another engine`() = test {
        val encryption = JSONObject().put("type", "m.room.encryption").put("state_key", "").put("sender", "@alice:example.org")
            .put("event_id", "${'$'}encryption").put("content", JSONObject().put("algorithm", "m.megolm.v1.aes-sha2"))
        open(directory).use { machine ->
            val room = machine.room("!room:example.org")
            room.receiveEvents(listOf(encryption.toString()))
            val event = JSONObject().put("type", "m.room.encrypted").put("sender", "@bob:example.org").put("event_id", "${'$'}a")
                .put("content", JSONObject().put("algorithm", "m.megolm.v1.aes-sha2").put("ciphertext", "AwgA"))
            says(MlsException.InvalidInput::class, "not_mls", "the Olm machine") { room.decrypt(event.toString()) }
            for (call in listOf<suspend () -> Unit>({ room.encrypt("m.room.message", "{}") }, { room.enable(RoomSettings()) })) {
                says(MlsException.InvalidInput::class, "other_algorithm", "create a new room") { call() }
            }
        }
    }

    @Test
    fun `a mistyped and a wrong recovery key say what to type`() = test {
        val alice = account("alice")
        val text = alice.backUp()
        val typed = text.take(20) + (if (text[20] == 'A') 'B' else 'A') + text.drop(21)
        val spaced = if (text[20] == ' ') text.take(21) + (if (text[21] == 'A') 'B' else 'A') + text.drop(22) else typed
        says(MlsException.InvalidInput::class, "recovery_key_parity", "compare the key") { RecoveryKey.parse(spaced) }
        says(MlsException.InvalidInput::class, "recovery_key_length", "none is missing") { RecoveryKey.parse(text.drop(2)) }
        RecoveryKey.generate().use { wrong ->
            val phone = anotherDevice(alice, "NEWPHONE")
            says(MlsException.InvalidInput::class, "wrong_key", "type the recovery key of the current backup") {
                phone.machine.restoreBackup(phone.transport, wrong)
            }
            phone.close()
        }
        alice.close()
    }

    @Test
    fun `wiping deletes every file of a store, and nothing else`() = test {
        val (store, other) = directory.resolve("store").createDirectory() to directory.resolve("other").createDirectory()
        open(store).use { it.enableAlone("!room:example.org") }
        assertTrue(store.listDirectoryEntries().isNotEmpty())
        wipeStore(store.toString())
        assertFalse(store.exists())
        wipeStore(store.toString())

        val machine = open(other)
        machine.enableAlone("!room:example.org")
        other.resolve("of-the-app").writeText("stays")
        machine.wipe()
        assertEquals(listOf("of-the-app"), other.listDirectoryEntries().map { it.fileName.toString() })
        says(MlsException.Closed::class, "closed", "open it again") { machine.rooms() }
        machine.close()
        // What comes next knows nothing of it.
        open(other, StoreKey.Unprotected).use { assertEquals(emptyList<String>(), it.rooms()) }
    }

    @Test
    fun `a new room is encrypted from its first event on`() {
        val request = JSONObject().put("name", "a room").put("initial_state", JSONArray(listOf(JSONObject().put("type", "m.room.encryption"))))
        val body = JSONObject(createRoomBody(request.toString()))
        assertEquals("a room", body.getString("name"))
        val state = body.getJSONArray("initial_state")
        assertEquals(1, state.length())
        assertEquals("m.room.encryption" to "", state.getJSONObject(0).let { it.getString("type") to it.getString("state_key") })
        val algorithm = state.getJSONObject(0).getJSONObject("content").getString("algorithm")
        assertEquals(algorithm, body.getJSONObject("creation_content").getJSONObject("encryption").getString("algorithm"))
    }
}
