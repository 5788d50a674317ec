/** That nothing that prints shows a secret or a message. */
package org.matrixmls.tests

import java.nio.file.Path
import java.util.concurrent.ConcurrentLinkedQueue
import org.json.JSONObject
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertFalse
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Test
import org.junit.jupiter.api.io.TempDir
import org.matrixmls.BackupSecret
import org.matrixmls.BackupState
import org.matrixmls.EventOutcome
import org.matrixmls.EventResult
import org.matrixmls.ExportedSecret
import org.matrixmls.LogLevel
import org.matrixmls.LogSink
import org.matrixmls.MlsException
import org.matrixmls.RecoveryKey
import org.matrixmls.Shield
import org.matrixmls.StoreKey
import org.matrixmls.SyncStart
import org.matrixmls.setLogSink
import org.matrixmls.use

class SecretsTest {
    @TempDir
    lateinit var directory: Path

    @Test
    fun `no text of a value, an error or a log line has a secret in it`() = test {
        val lines = ConcurrentLinkedQueue<String>()
        setLogSink(LogLevel.DEBUG, object : LogSink {
            override fun onLog(level: LogLevel, target: String, message: String) {
                lines += message
            }
        })
        val raw = StoreKey.Raw("0123456789-secret-key-0123456789".toByteArray())
        val passphrase = StoreKey.Passphrase("the secret passphrase")
        val key = RecoveryKey.generate()
        val (text, bytes) = key.text() to key.bytes()
        val said = "the secret message"
        val printed = mutableListOf<String>()
        open(directory, raw).use { machine ->
            val room = machine.enableAlone("!room:example.org")
            val content = JSONObject(room.encrypt("m.room.message", """{"body":"$said"}"""))
            val event = JSONObject().put("type", "m.room.encrypted").put("sender", machine.userId()).put("content", content)
            val message = room.decrypt(event.toString())
            assertTrue(message.content.contains(said))
            printed += message.toString()
            printed += EventResult("${'$'}a", EventOutcome.Message(message)).toString()
            printed += runCatching { room.encrypt("m.room.message", "[\"$said\"]") }.exceptionOrNull().toString()
            printed += runCatching { room.encrypt("m.room.message", said) }.exceptionOrNull().toString()
            machine.backup().use { backup ->
                backup.create(key, replace = false)
                printed += machine.outgoingRequests().toString()
                printed += runCatching { backup.importHistory(said, "the secret passphrase") }.exceptionOrNull().toString()
            }
            machine.changeStoreKey(passphrase)
        }
        setLogSink(LogLevel.DEBUG, null)
        printed += listOf(raw, passphrase, key, listOf(raw), config(directory, passphrase)).map { it.toString() }
        printed += BackupSecret("m.name", text.toByteArray()).toString()
        printed += ExportedSecret("0123456789-secret-key-0123456789".toByteArray(), 7uL, "00").toString()
        printed += runCatching { RecoveryKey.parse(text.dropLast(1)) }.exceptionOrNull().toString()
        printed += runCatching { open(directory, StoreKey.Passphrase("another secret passphrase")) }.exceptionOrNull().toString()
        printed += lines
        val hex = bytes.joinToString("") { "%02x".format(it) }
        val secrets = listOf(
            "secret", text, text.replace(" ", ""), text.take(12), bytes.toList().toString(), hex,
            "0123456789-secret-key-0123456789".toByteArray().toList().toString().drop(1).dropLast(1),
        )
        assertTrue(printed.size > 12 && printed.all { it.isNotEmpty() }, printed.toString())
        for (secret in secrets) {
            val with = printed.filter { it.contains(secret) }
            assertTrue(with.isEmpty(), "$secret in $with")
        }
        assertTrue(printed.contains("StoreKey.Passphrase(..)"), printed.toString())
        assertTrue(printed.contains("ExportedSecret(epoch 7, 00)"), printed.toString())
        // They are still told apart.
        assertFalse(raw == StoreKey.Passphrase("x"))
        assertTrue(runCatching { RecoveryKey.parse("") }.exceptionOrNull() is MlsException)
        key.close()
    }

    @Test
    fun `a value without fields prints its name`() {
        val values = listOf(BackupState.Unknown, Shield.None, StoreKey.Unprotected, SyncStart.Anew)
        assertEquals("Unknown", values.first().toString())
        assertTrue(values.none { it.toString().contains('@') }, values.toString())
    }
}
