/**
 * Who is really there: shields, people whose identity is another than before, and comparing emojis with somebody. Knows no
 * view.
 */
package org.matrixmls.sample.android

import java.util.concurrent.ConcurrentHashMap
import kotlinx.coroutines.flow.MutableStateFlow
import kotlinx.coroutines.flow.update
import kotlinx.coroutines.sync.Mutex
import kotlinx.coroutines.sync.withLock
import org.matrixmls.MlsException
import org.matrixmls.MlsMachine
import org.matrixmls.Shield
import org.matrixmls.Update
import org.matrixmls.Verdict
import org.matrixmls.Verification
import org.matrixmls.VerificationState
import org.matrixmls.VerificationStatus
import org.matrixmls.shieldOf
import org.matrixmls.updates

/** The shield beside a message: its colour, and why it is there. */
data class Badge(val isRed: Boolean, val why: String)

/** The shield of a verdict, if it has one. */
fun badge(verdict: Verdict): Badge? = when (val shield = shieldOf(verdict, strict = false)) {
    is Shield.None -> null
    is Shield.Grey -> Badge(false, shield.message)
    is Shield.Red -> Badge(true, shield.message)
}

/** Somebody who has another identity than the one that this phone has seen first, or that its user has verified. */
data class ChangedIdentity(val userId: String, val masterKey: String, val wasVerified: Boolean)

/** Comparing emojis with somebody: how far it has come. */
data class Comparison(val id: String, val userId: String, val isIncoming: Boolean, val state: VerificationState) {
    /** Whether there is nothing to do any more. */
    val isOver: Boolean get() = state is VerificationState.Done || state is VerificationState.Cancelled
}

/** What the sample does about trust. `wake` has the engine's requests sent. */
class Trust(
    private val machine: MlsMachine,
    private val shown: MutableStateFlow<Shown>,
    private val wake: suspend () -> Unit,
) {
    /** Comparisons that were over and that the user has closed. */
    private val closed: MutableSet<String> = ConcurrentHashMap.newKeySet()
    private val showing = Mutex()

    /** Keeps what is shown as it is by now, for as long as it is not cancelled. */
    suspend fun watch() {
        machine.updates(onSubscribed = ::lookAtAll).collect { update ->
            when (update) {
                is Update.TrustChanged -> update.userIds.forEach { look(it) }
                is Update.IdentityChanged -> look(update.userId)
                is Update.VerificationRequested -> show(update.verificationId)
                is Update.VerificationChanged -> show(update.verificationId)
                else -> {}
            }
        }
    }

    private suspend fun lookAtAll() {
        for (info in machine.verifications()) show(info.id)
        for (roomId in machine.rooms()) users(roomId).forEach { look(it) }
    }

    /** Whose devices are in a room's group; nobody's where this phone has none yet. */
    private suspend fun users(roomId: String): Set<String> = try {
        machine.room(roomId).members().map { it.userId }.toSet()
    } catch (_: MlsException) {
        emptySet()
    }

    /** Whether a user is to be warned of. */
    suspend fun look(userId: String) {
        val identity = machine.userIdentity(userId)
        val wasVerified = identity?.verification == VerificationStatus.CHANGED
        val warning = identity?.takeIf { wasVerified || it.hasChanged }
            ?.let { ChangedIdentity(userId, it.masterKey, wasVerified) }
        shown.update { it.copy(changed = it.changed - userId + listOfNotNull(warning).associateBy { userId }) }
    }

    /** The user takes the new identity for theirs, unverified. */
    suspend fun accept(changed: ChangedIdentity) {
        machine.acceptIdentity(changed.userId, changed.masterKey)
        look(changed.userId)
    }

    /** The user does not hold on to having verified them. */
    suspend fun withdraw(changed: ChangedIdentity) {
        machine.withdrawVerification(changed.userId)
        look(changed.userId)
    }

    /** Asks somebody to compare emojis. */
    suspend fun verify(userId: String) {
        show(machine.requestVerification(userId, null).use { it.id() })
        wake()
    }

    /** Answers the one who asks. */
    suspend fun answer(comparison: Comparison) = act(comparison) { it.accept() }

    /** Both devices show the same. */
    suspend fun match(comparison: Comparison) = act(comparison) { it.confirm() }

    /** They do not. */
    suspend fun mismatch(comparison: Comparison) = act(comparison) { it.mismatch() }

    /** Ends it, or takes it off the screen where it is over. */
    suspend fun leave(comparison: Comparison) {
        if (!comparison.isOver) return act(comparison) { it.cancel() }
        closed += comparison.id
        shown.update { it.copy(comparison = null) }
    }

    private suspend fun act(comparison: Comparison, action: suspend (Verification) -> Unit) {
        machine.verification(comparison.id).use { action(it) }
        show(comparison.id)
        wake()
    }

    /** Shows a verification as it is. Whoever has asked begins the comparison as soon as both want it. */
    private suspend fun show(id: String) {
        val begun = machine.verification(id).use { verification ->
            // One after the other: what was read first must not be shown last.
            showing.withLock {
                val begun = verification.info().let { !it.isIncoming && it.state is VerificationState.Ready } &&
                    verification.begin()
                val info = verification.info()
                val comparison = Comparison(info.id, info.userId, info.isIncoming, info.state)
                // The user may have closed it while news of it were on the way.
                shown.update { if (id in closed) it else it.copy(comparison = comparison) }
                begun
            }
        }
        if (begun) wake()
    }

    /** Begins the comparison; not where the other side has begun meanwhile. */
    private suspend fun Verification.begin(): Boolean = try {
        startSas()
        true
    } catch (_: MlsException.InvalidInput) {
        false
    }
}
