/** Two people compare emojis. */
package org.matrixmls.tests

import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Test
import org.matrixmls.MlsException
import org.matrixmls.Update
import org.matrixmls.Verification
import org.matrixmls.VerificationState

class VerificationTest {
    private suspend fun comparing(verification: Verification): VerificationState.Comparing {
        val state = verification.info().state
        check(state is VerificationState.Comparing) { "not comparing: $state" }
        return state
    }

    @Test
    fun `two devices show the same and verify each other`() = test {
        val (alice, bob) = account("alice") to account("bob")
        val heard = Heard(bob.machine)
        val ours = alice.machine.requestVerification(bob.userId, null)
        settle(alice, bob)
        val asked = heard.one<Update.VerificationRequested>()
        assertEquals(alice.userId, asked.userId)
        assertEquals("PHONE", asked.deviceId)
        val theirs = bob.machine.verification(asked.verificationId)
        assertTrue(theirs.info().isIncoming)
        assertEquals(listOf(asked.verificationId), bob.machine.verifications().map { it.id })
        theirs.accept()
        settle(bob, alice)
        assertEquals(VerificationState.Ready, ours.info().state)
        ours.startSas()
        settle(alice, bob)
        val shown = comparing(ours)
        assertEquals(shown, comparing(theirs))
        assertEquals(7, shown.emojis.size)
        assertEquals(3, shown.decimals.size)
        ours.confirm()
        theirs.confirm()
        settle(alice, bob)
        val done = VerificationState.Done(masterKey = null, isSigned = false)
        for (side in listOf(ours, theirs)) assertEquals(done, side.info().state)
        while (heard.updates.none { it == Update.VerificationChanged(theirs.id(), done) }) {
            kotlinx.coroutines.delay(1)
        }
        heard.close()
        close(alice, bob)
    }

    @Test
    fun `what differs ends it, in a room too`() = test {
        val (alice, bob) = account("alice") to account("bob")
        val room = roomOf(alice, bob)
        val ours = alice.machine.room(room).requestVerification(bob.userId)
        settle(alice, bob)
        val info = bob.machine.verifications().single()
        assertEquals(room, info.roomId)
        val theirs = bob.machine.verification(info.id)
        theirs.accept()
        settle(bob, alice)
        theirs.startSas()
        settle(bob, alice)
        assertEquals(comparing(ours), comparing(theirs))
        ours.mismatch()
        settle(alice, bob)
        for (side in listOf(ours, theirs)) {
            val state = side.info().state
            check(state is VerificationState.Cancelled)
            assertEquals("m.mismatched_sas", state.code)
            assertEquals(side == ours, state.byThisDevice)
        }
        ours.cancel()
        fails(MlsException.InvalidInput::class, "not_now") { ours.confirm() }
        close(alice, bob)
    }
}
