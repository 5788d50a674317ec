/** The key backup on a homeserver: what it is like before, while and after there is one. Bringing back: [RestoreTest]. */
package org.matrixmls.tests

import java.util.Base64
import kotlinx.coroutines.delay
import org.json.JSONObject
import org.junit.jupiter.api.Assertions.assertArrayEquals
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertFalse
import org.junit.jupiter.api.Assertions.assertNull
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Test
import org.matrixmls.BackupState
import org.matrixmls.MlsException
import org.matrixmls.RecoveryKey
import org.matrixmls.RoomSettings
import org.matrixmls.Update
import org.matrixmls.drive
import org.matrixmls.keyOfSecret
import org.matrixmls.sample.MatrixClient
import org.matrixmls.sample.backUp
import org.matrixmls.sample.signOut

private const val VERSION = "/_matrix/client/v3/room_keys/version"

class BackupTest {
    private suspend fun MatrixClient.drive() = machine.drive(transport)

    @Test
    fun `a backup goes from nothing to enabled, and says what is in it`() = test {
        val (alice, bob) = account("alice") to account("bob")
        val roomId = roomOf(alice, bob)
        alice.send(roomId, "hello")
        val heard = Heard(alice.machine)
        val backup = alice.machine.backup()
        assertEquals(BackupState.Unknown, backup.state())
        fails(MlsException.InvalidInput::class, "no_backup") { backup.delete() }
        assertNull(backup.recoveryKey())
        assertNull(backup.secret())
        backup.look()
        alice.drive()
        assertEquals(BackupState.Absent, backup.state())

        RecoveryKey.generate().use { key ->
            backup.create(key, replace = false)
            assertEquals(BackupState.Working, backup.state())
            alice.drive()
            val enabled = BackupState.Enabled("1", megolm = false)
            assertEquals(enabled, backup.state())
            backup.recoveryKey()!!.use { assertEquals(key.text(), it.text()) }
            val secret = backup.secret()!!
            assertEquals(listOf(secret.name, "m.megolm_backup.v1"), backup.secretNames())
            assertArrayEquals(Base64.getEncoder().withoutPadding().encode(key.bytes()), secret.value)
            keyOfSecret(secret.value).use { assertEquals(key.text(), it.text()) }
            while (heard.updates.none { it == Update.BackupChanged(enabled) }) delay(1)
        }
        val counts = backup.counts()
        assertEquals(2uL to 2uL, counts.backedUp to counts.total)
        assertEquals(Update.BackupProgress(2u, 2u), heard.one<Update.BackupProgress>())
        // What comes is backed up too; leaves are sessions of their own.
        alice.machine.room(roomId).rotateKeys()
        alice.send(roomId, "hello again")
        alice.settle()
        assertEquals(3uL, backup.counts().backedUp)
        assertTrue(backup.counts().onServer!! > 3u, backup.counts().toString())

        backup.disable()
        assertEquals(BackupState.Locked("1", megolm = false, passphrase = null), backup.state())
        backup.delete()
        alice.drive()
        assertEquals(BackupState.Absent, backup.state())
        heard.close()
        backup.close()
        alice.close()
        bob.close()
    }

    @Test
    fun `what was asked for and does not come about is told`() = test {
        val alice = account("alice")
        val key = RecoveryKey.parse(alice.backUp())
        val phone = anotherDevice(alice, "NEWPHONE")
        val (wrong, backup) = RecoveryKey.generate() to phone.machine.backup()
        suspend fun refused(ask: suspend () -> Unit): String {
            val heard = Heard(phone.machine)
            ask()
            phone.drive()
            return heard.one<Update.BackupFailed>().code.also { heard.close() }
        }
        assertEquals("backup_exists", refused { backup.create(wrong, replace = false) })
        assertEquals("wrong_key", refused { backup.enable(wrong) })
        assertEquals(BackupState.Locked("1", megolm = false, passphrase = null), backup.state())
        backup.enable(key)
        phone.drive()
        assertEquals(BackupState.Enabled("1", megolm = false), backup.state())
        // Another device makes a new one; this one finds that out, and does not have its key.
        alice.machine.backup().use { it.create(wrong, replace = true) }
        alice.drive()
        assertEquals("wrong_key", refused { backup.look() })
        assertEquals(BackupState.Locked("2", megolm = false, passphrase = null), backup.state())
        phone.signOut("PHONE", "secret")
        for (handle in listOf(key, wrong, backup)) handle.close()
        phone.close()
        alice.close()
    }

    @Test
    fun `Megolm's backup is shared, and one of another kind is left alone`() = test {
        val alice = account("alice")
        val backup = alice.machine.backup()
        suspend fun make(algorithm: String, authData: JSONObject) {
            val request = JSONObject().put("algorithm", algorithm).put("auth_data", authData)
            assertEquals(200, alice.transport.exchange("POST", VERSION, request.toString().toByteArray()).status)
            backup.look()
            alice.drive()
        }
        // The Matrix spec's example key, and its public key.
        val publicKey = "hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo"
        make("m.megolm_backup.v1.curve25519-aes-sha2", JSONObject().put("public_key", publicKey).put("signatures", JSONObject()))
        assertEquals(BackupState.Locked("1", megolm = true, passphrase = null), backup.state())
        val key = RecoveryKey.parse("EsTcLW2KPGiFwKEA3As5g5c4BXwkqeeJZJV8Q9fugUMNUE4d")
        backup.enable(key)
        alice.drive()
        assertEquals(BackupState.Enabled("1", megolm = true), backup.state())
        assertEquals("m.megolm_backup.v1", backup.secret()!!.name)
        make("m.backup.of.tomorrow", JSONObject())
        assertEquals(BackupState.Unsupported("2", "m.backup.of.tomorrow"), backup.state())
        val heard = Heard(alice.machine)
        backup.enable(key)
        alice.drive()
        assertEquals("unsupported_backup", heard.one<Update.BackupFailed>().code)
        heard.close()
        key.close()
        backup.close()
        alice.close()
    }

    @Test
    fun `a room whose messages are read once is in no backup`() = test {
        val (alice, bob) = account("alice") to account("bob")
        val once = RoomSettings(readOnce = true)
        val roomId = roomOf(alice, bob)
        val room = bob.machine.room(roomId)
        fails(MlsException.InvalidInput::class, "bad_settings") { room.setSettings(RoomSettings(readOnce = true, keepHistoryMs = 1u)) }
        room.setSettings(once)
        assertEquals(once, room.settings())
        bob.prepare(roomId)
        alice.settle()
        alice.send(roomId, "once")
        assertEquals("once", JSONObject(bob.settle().single().content).getString("body"))
        val event = bob.encryptedEvents(roomId).last().toString()
        fails(MlsException.Rejected::class, "read_once") { room.decrypt(event) }
        val ago = RoomSettings(keepHistoryMs = 1_000u)
        room.setSettings(ago)
        assertEquals(ago, room.settings())
        assertFalse(room.settings().readOnce)
        alice.close()
        bob.close()
    }

    @Test
    fun `an event that shows a message again is refused`() = test {
        val (alice, bob) = account("alice") to account("bob")
        val roomId = roomOf(alice, bob)
        alice.send(roomId, "pay Carol")
        val event = bob.encryptedEvents(roomId).last()
        val room = bob.machine.room(roomId)
        repeat(2) { assertTrue(room.decrypt(event.toString()).content.contains("pay Carol")) }
        assertTrue(!room.decrypt(event.toString()).isLate)
        val again = JSONObject(event.toString()).put("event_id", "\$another")
        fails(MlsException.Rejected::class, "replayed") { room.decrypt(again.toString()) }
        alice.close()
        bob.close()
    }
}
