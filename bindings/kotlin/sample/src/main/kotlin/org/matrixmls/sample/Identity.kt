/** What a user does about who is who: an identity of one's own, and comparing emojis with somebody. */
package org.matrixmls.sample

import org.matrixmls.IdentityState
import org.matrixmls.Verification
import org.matrixmls.VerificationState

/** Makes an identity for a user who has none, and signs this device with it. */
suspend fun MatrixClient.makeIdentity() {
    machine.identity().use { identity ->
        identity.create()
        settle()
        val state = identity.state()
        check(state is IdentityState.Complete) { "the identity is not complete: $state" }
    }
}

/** Asks somebody to compare emojis. Returns the verification's id. */
suspend fun MatrixClient.askToVerify(userId: String): String =
    machine.requestVerification(userId, null).use { it.id() }

/** Answers the one who asks. Returns the verification's id. */
suspend fun MatrixClient.answerWhoAsks(): String {
    val asked = checkNotNull(machine.verifications().find { it.isIncoming }) { "nobody asks" }
    machine.verification(asked.id).use { it.accept() }
    return asked.id
}

/** The seven emojis to compare. */
suspend fun Verification.emojis(): List<String> {
    val state = info().state
    check(state is VerificationState.Comparing) { "nothing is to be compared: $state" }
    return state.emojis.map { it.symbol }
}

/** Whether this device has signed who was verified. */
suspend fun Verification.hasSigned(): Boolean {
    val state = info().state
    check(state is VerificationState.Done) { "not verified: $state" }
    return state.isSigned
}
