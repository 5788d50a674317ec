/** Secrets for the keys of a call. */
package org.matrixmls.tests

import org.junit.jupiter.api.Assertions.assertArrayEquals
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertFalse
import org.junit.jupiter.api.Test
import org.matrixmls.MlsException
import org.matrixmls.Update

class CallTest {
    @Test
    fun `both devices have the same bytes until somebody commits`() = test {
        val (alice, bob) = account("alice") to account("bob")
        val roomId = roomOf(alice, bob)
        bob.prepare(roomId)
        settle(bob, alice)
        val heard = Heard(alice.machine)

        alice.prepare(roomId)
        val context = "call-1|${alice.userId}|PHONE".toByteArray()
        val mine = alice.machine.room(roomId).exportSecret("org.example.call.media", context, 32u)

        settle(alice, bob)
        val theirs = bob.machine.room(roomId)
            .exportSecretOfEpoch(mine.epochId, "org.example.call.media", context, 32u)
        assertArrayEquals(mine.secret, theirs.secret)
        assertEquals(mine.epoch, theirs.epoch)

        bob.commit(roomId)
        settle(bob, alice)
        val changed = heard.one<Update.ExportedSecretsChanged>()
        assertEquals(mine.epochId, changed.previousEpochId)
        assertEquals(60_000uL, changed.previousForMs)
        alice.prepare(roomId)
        val next = alice.machine.room(roomId).exportSecret("org.example.call.media", context, 32u)
        assertFalse(mine.secret.contentEquals(next.secret))
        heard.close()
        close(alice, bob)
    }

    @Test
    fun `labels of the library, and other wrong arguments, are refused`() = test {
        val alice = account("alice")
        val roomId = alice.createRoom(emptyList())
        alice.settle()
        alice.enable(roomId)
        alice.prepare(roomId)
        val room = alice.machine.room(roomId)
        fails(MlsException.InvalidInput::class, "reserved_label") {
            room.exportSecret("org.matrix.msc2883.v1.dmls.history", ByteArray(0), 32u)
        }
        fails(MlsException.InvalidInput::class, "bad_length") { room.exportSecret("org.example", ByteArray(0), 8u) }
        fails(MlsException.InvalidInput::class, "bad_epoch_id") {
            room.exportSecretOfEpoch("7", "org.example", ByteArray(0), 32u)
        }
        alice.close()
    }
}
