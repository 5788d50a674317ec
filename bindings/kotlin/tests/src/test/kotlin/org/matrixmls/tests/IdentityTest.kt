/** The user's own cross-signing identity, and the recovery key that gives it to a new phone. */
package org.matrixmls.tests

import java.nio.file.Files
import org.json.JSONObject
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertFalse
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Test
import org.matrixmls.IdentityState
import org.matrixmls.MlsException
import org.matrixmls.MlsMachine
import org.matrixmls.Publishing
import org.matrixmls.RecoveryKey
import org.matrixmls.RecoveryState
import org.matrixmls.Update
import org.matrixmls.markRequestAsSent
import org.matrixmls.sample.MatrixClient
import org.matrixmls.use

class IdentityTest {
    private suspend fun MatrixClient.state() = machine.identity().use { it.state() }

    private suspend fun MatrixClient.createIdentity() {
        machine.identity().use { it.create() }
        settle(this)
        assertEquals(IdentityState.Complete, state())
    }

    @Test
    fun `an identity is made once, and made anew after the password`() = test {
        val bob = account("bob")
        assertEquals(IdentityState.Unknown, bob.state())
        settle(bob)
        val heard = Heard(bob.machine)
        assertEquals(IdentityState.Absent, bob.state())
        bob.createIdentity()
        heard.one<Update.SignatureUploaded>()
        assertEquals(IdentityState.Working, heard.one<Update.IdentityStateChanged>().state)
        bob.machine.identity().use { identity ->
            fails(MlsException.InvalidInput::class, "identity_exists") { identity.create() }
            fails(MlsException.InvalidInput::class, "no_auth_needed") { identity.authorize("{}") }
            assertFalse(identity.cancel())
            identity.reset()
            settle(bob)
            assertTrue(identity.cancel())
            assertEquals("cancelled", heard.one<Update.IdentityFailed>().code)
            identity.reset()
            settle(bob)
            val challenge = (identity.state() as IdentityState.AuthNeeded).challenge
            assertEquals(listOf("m.login.password"), challenge.flows.single().stages)
            fails(MlsException.InvalidInput::class, "bad_auth") { identity.authorize("[]") }
            val user = JSONObject().put("type", "m.id.user").put("user", bob.userId)
            val auth = JSONObject().put("type", "m.login.password").put("identifier", user)
                .put("password", "secret").put("session", challenge.session)
            identity.authorize(auth.toString())
        }
        settle(bob)
        assertEquals(IdentityState.Complete, bob.state())
        heard.close()
        close(bob)
    }

    @Test
    fun `a device signs what its user has compared`() = test {
        val (alice, bob) = account("alice") to account("bob")
        roomOf(alice, bob)
        alice.createIdentity()
        bob.createIdentity()
        settle(alice, bob)
        val master = bob.machine.userIdentity(alice.userId)!!.masterKey
        bob.machine.identity().use { identity ->
            fails(MlsException.InvalidInput::class, "bad_key") { identity.signUser(alice.userId, "none") }
            fails(MlsException.NotReady::class, "no_such_device") { identity.signDevice("LAPTOP", master) }
            val heard = Heard(bob.machine)
            identity.signUser(alice.userId, master)
            settle(bob)
            assertEquals(alice.userId, heard.one<Update.SignatureUploaded>().userId)
            identity.signUser(alice.userId, master)
            val upload = bob.machine.outgoingRequests().single { it.path.contains("/signatures/upload") }
            val failure = JSONObject().put("errcode", "M_INVALID_SIGNATURE").put("error", "no")
            val failures = JSONObject().put(alice.userId, JSONObject().put(master, failure))
            val answer = JSONObject().put("failures", failures).toString().toByteArray()
            bob.machine.markRequestAsSent(upload.id, 200, answer)
            assertEquals("M_INVALID_SIGNATURE", heard.one<Update.SignatureRefused>().code)
            heard.close()
        }
        close(alice, bob)
    }

    @Test
    fun `a recovery key gives a new phone the identity`() = test {
        val bob = account("bob")
        bob.createIdentity()
        val key = RecoveryKey.generate()
        bob.machine.identity().use { identity ->
            identity.lookForRecovery()
            val heard = Heard(bob.machine)
            settle(bob)
            assertEquals(RecoveryState.Absent, identity.recoveryState())
            heard.one<Update.RecoveryChanged>()
            heard.close()
            identity.storeSecrets(key, replace = false)
            settle(bob)
            assertTrue(identity.recoveryState() is RecoveryState.Present)
        }
        val new = anotherDevice(bob, "NEW")
        settle(new)
        val own = Heard(bob.machine)
        settle(bob)
        assertEquals("NEW", own.one<Update.UnsignedOwnDevice>().deviceId)
        own.close()
        val heard = Heard(new.machine)
        new.machine.identity().use { identity ->
            RecoveryKey.generate().use { identity.recover(it) }
            settle(new)
            assertEquals("wrong_key", heard.one<Update.RecoveryFailed>().code)
            identity.recoverWithHistory(key)
            settle(new)
        }
        assertEquals(3, heard.one<Update.RecoveryFinished>().recovered.size)
        assertEquals(IdentityState.Complete, new.state())
        key.close()
        heard.close()
        close(bob, new)
    }

    @Test
    fun `a device notices that the homeserver leaves it out`() = test {
        val bob = account("bob")
        bob.createIdentity()
        val heard = Heard(bob.machine)
        repeat(2) {
            bob.machine.doubtDeviceLists()
            val query = bob.machine.outgoingRequests().single { it.path.contains("/keys/query") }
            bob.machine.markRequestAsSent(query.id, 200, """{"device_keys":{}}""".toByteArray())
        }
        assertEquals("missing", heard.one<Update.OwnDeviceAltered>().code)
        heard.close()
        close(bob)
    }

    @Test
    fun `beside Olm the identity is the Olm machine's`() = test {
        val config = config(Files.createTempDirectory("matrix-mls-olm")).copy(publishing = Publishing.BESIDE_OLM)
        MlsMachine.open(config).use { machine ->
            machine.identity().use { fails(MlsException.Unsupported::class, "beside_olm") { it.create() } }
        }
    }
}
