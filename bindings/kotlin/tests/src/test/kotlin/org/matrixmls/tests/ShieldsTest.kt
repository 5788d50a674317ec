/** What is known of who has sent something, and what stops where an identity is another. */
package org.matrixmls.tests

import java.nio.file.Path
import org.json.JSONArray
import org.json.JSONObject
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Test
import org.junit.jupiter.api.io.TempDir
import org.matrixmls.Answer
import org.matrixmls.MlsException
import org.matrixmls.MlsMachine
import org.matrixmls.Shield
import org.matrixmls.ShieldCode
import org.matrixmls.Transport
import org.matrixmls.Update
import org.matrixmls.Verdict
import org.matrixmls.VerificationStatus
import org.matrixmls.prepare
import org.matrixmls.shieldOf
import org.matrixmls.use

class ShieldsTest {
    @TempDir
    lateinit var directory: Path

    @Test
    fun `another own identity stops what is sent, until the user decides`() = test {
        val alice = "@alice:example.org"
        val (first, second) = "A".repeat(43) to "B".repeat(42) + "A"
        var master = first
        val homeserver = Transport { request ->
            when {
                request.path.contains("/keys/query") -> {
                    val key = JSONObject().put("user_id", alice).put("usage", JSONArray().put("master"))
                        .put("keys", JSONObject().put("ed25519:$master", master))
                    val answer = JSONObject().put("device_keys", JSONObject()).put("master_keys", JSONObject().put(alice, key))
                    Answer(200, answer.toString().toByteArray())
                }
                request.path.contains("/members") -> Answer(200, members(alice).toByteArray())
                else -> accepting.send(request)
            }
        }
        MlsMachine.open(config(directory.resolve("alice"))).use { machine ->
            val heard = Heard(machine)
            val room = machine.enableAlone("!room:example.org")
            machine.doubtDeviceLists()
            machine.prepare(room, homeserver)
            fails(MlsException.InvalidInput::class, "other_identity") { machine.confirmOwnIdentity(second) }
            machine.confirmOwnIdentity(first)
            assertEquals(VerificationStatus.VERIFIED, machine.userIdentity(alice)!!.verification)
            machine.prepare(room, homeserver)

            master = second
            machine.doubtDeviceLists()
            val stopped = fails(MlsException.UntrustedMembers::class, "identity_changed") { machine.prepare(room, homeserver) }
            assertEquals(listOf(alice), stopped.userIds)
            assertEquals(VerificationStatus.CHANGED, machine.userIdentity(alice)!!.verification)
            assertEquals(Update.IdentityChanged(alice), heard.one<Update.IdentityChanged>())
            machine.withdrawVerification(alice)
            assertEquals(Update.TrustChanged(listOf(alice)), heard.updates.last { it is Update.TrustChanged })
            assertEquals(VerificationStatus.NOT_VERIFIED, machine.userIdentity(alice)!!.verification)
            machine.prepare(room, homeserver)
            assertEquals(Verdict.VERIFIED, machine.deviceVerdict(alice, "PHONE"))
            assertEquals(Verdict.UNKNOWN_DEVICE, machine.deviceVerdict(alice, "LAPTOP"))
            heard.close()
        }
    }

    @Test
    fun `an app can send to verified devices only`() = test {
        val (alice, bob) = account("alice") to account("bob")
        val roomId = roomOf(alice, bob)
        alice.send(roomId, "to anybody")
        val message = bob.settle().last()
        assertEquals(Verdict.NOT_SIGNED_BY_OWNER, message.verdict)
        alice.machine.sendOnlyToVerified(true)
        val stopped = fails(MlsException.UntrustedMembers::class, "not_verified") { alice.prepare(roomId) }
        assertEquals(listOf(bob.userId), stopped.userIds)
        alice.machine.sendOnlyToVerified(false)
        alice.prepare(roomId)
        alice.close()
        bob.close()
    }

    @Test
    fun `a verdict has a shield`() {
        assertEquals(Shield.None, shieldOf(Verdict.VERIFIED, true))
        assertEquals(Shield.None, shieldOf(Verdict.OWNER_NOT_VERIFIED, false))
        assertEquals(ShieldCode.UNVERIFIED_IDENTITY, (shieldOf(Verdict.OWNER_NOT_VERIFIED, true) as Shield.Red).code)
        assertEquals(ShieldCode.AUTHENTICITY_NOT_GUARANTEED, (shieldOf(Verdict.ONLY_CLAIMED, true) as Shield.Grey).code)
        assertTrue(Verdict.entries.filter { it.name.contains("NOT") }.all { shieldOf(it, true) != Shield.None })
    }
}
