/** Recovery keys: their text, the passphrase form, secret storage, and what is told about mistakes. */
package org.matrixmls.tests

import java.util.Base64
import org.junit.jupiter.api.Assertions.assertArrayEquals
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertFalse
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Test
import org.matrixmls.MlsException
import org.matrixmls.RecoveryKey
import org.matrixmls.keyOfSecret
import org.matrixmls.reason

class KeysTest {
    /** The key of the Matrix spec's examples. */
    private val known = "EsTc LW2K PGiF wKEA 3As5 g5c4 BXwk qeeJ ZJV8 Q9fu gUMN UE4d"

    @Test
    fun `a key is a text to write down, and bytes`() = test {
        RecoveryKey.generate().use { key ->
            val text = key.text()
            assertEquals(List(12) { 4 }, text.split(' ').map { it.length })
            RecoveryKey.parse(" $text\n".replace(' ', '\n')).use { assertArrayEquals(key.bytes(), it.bytes()) }
            RecoveryKey.fromBytes(key.bytes()).use { assertEquals(text, it.text()) }
            assertFalse(key.toString().contains(text.take(4)), key.toString())
        }
        RecoveryKey.parse(known).use { key ->
            assertEquals("77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a", key.bytes().joinToString("") { "%02x".format(it) })
            assertEquals(known, key.text())
        }
    }

    @Test
    fun `what is wrong with a key is told`() = test {
        val mistakes = mapOf(
            known.replace('T', '0') to "recovery_key_alphabet",
            known.dropLast(5) to "recovery_key_length",
            "" to "recovery_key_length",
            known.replaceFirst("Es", "Et") to "recovery_key_prefix",
            known.replace("E4d", "E4e") to "recovery_key_parity",
        )
        for ((text, code) in mistakes) {
            val error = fails(MlsException.InvalidInput::class, code) { RecoveryKey.parse(text) }
            assertFalse(error.reason.contains("LW2K"), error.reason)
        }
        fails(MlsException.InvalidInput::class, "recovery_key_length") { RecoveryKey.fromBytes(ByteArray(31)) }
        fails(MlsException.InvalidInput::class, "empty_passphrase") { RecoveryKey.fromNewPassphrase("") }
        for (rounds in listOf(0u, 99_999u, 10_000_001u, UInt.MAX_VALUE)) {
            fails(MlsException.InvalidInput::class, "bad_rounds") { RecoveryKey.fromPassphrase("a", "salt", rounds) }
        }
    }

    @Test
    fun `a passphrase stands for a key`() = test {
        // As Python's hashlib makes it.
        RecoveryKey.fromPassphrase("It's a secret to everybody", "salt", 100_000u).use { key ->
            assertTrue(key.bytes().joinToString("") { "%02x".format(it) }.startsWith("6189f90d3f486972ed7a953b"))
        }
        val (one, other) = List(2) { RecoveryKey.fromNewPassphrase("correct horse").use { key -> key.text() } }
        assertFalse(one == other, "the salt is new each time")
    }

    @Test
    fun `secret storage has the key as bytes`() = test {
        RecoveryKey.parse(known).use { key ->
            val value = Base64.getEncoder().withoutPadding().encode(key.bytes())
            keyOfSecret(value).use { assertEquals(known, it.text()) }
        }
        fails(MlsException.InvalidInput::class, "bad_secret") { keyOfSecret(byteArrayOf(-1)) }
        fails(MlsException.InvalidInput::class, "recovery_key_length") { keyOfSecret("AAAA".toByteArray()) }
    }
}
