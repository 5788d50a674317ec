/** A device that was verified gets its user's secrets. */
package org.matrixmls.tests

import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertFalse
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Test
import org.matrixmls.IdentityState
import org.matrixmls.MlsException
import org.matrixmls.OutgoingRequest
import org.matrixmls.ToDeviceResult
import org.matrixmls.Update
import org.matrixmls.sample.makeIdentity
import org.matrixmls.syncChangesFromResponse

class HandoverTest {
    @Test
    fun `a verified device takes the identity from the other`() = test {
        val phone = account("alice")
        phone.makeIdentity()
        val laptop = anotherDevice(phone, "LAPTOP")
        settle(laptop, phone)
        val asked = phone.machine.requestVerification(phone.userId, "LAPTOP")
        val ours = asked.id()
        settle(phone, laptop)
        val theirs = laptop.machine.verification(laptop.machine.verifications().single().id)
        theirs.accept()
        settle(laptop, phone)
        asked.startSas()
        settle(phone, laptop)
        fails(MlsException.InvalidInput::class, "not_now") { asked.offerSecrets() }
        asked.confirm()
        theirs.confirm()
        settle(phone, laptop)
        val heard = Heard(laptop.machine)

        phone.machine.verification(ours).use { it.offerSecrets() }
        phone.settle()
        val sync = OutgoingRequest("of no engine", "GET", "/_matrix/client/v3/sync?timeout=0", "application/json", ByteArray(0))
        val changes = syncChangesFromResponse(laptop.transport.send(sync).body.decodeToString(), since = null)
        val results = laptop.machine.receiveSync(changes).toDevice
        assertEquals(listOf(ToDeviceResult.SecretsReceived("PHONE")), results)
        settle(phone, laptop)
        val received = heard.one<Update.SecretsReceived>()

        assertEquals("PHONE" to 3, received.deviceId to received.recovered.size)
        assertTrue(laptop.machine.identity().use { it.state() } is IdentityState.Complete)
        assertFalse(theirs.withdrawSecrets(), "they were taken")
        heard.close()
        close(phone, laptop)
    }
}
