/**
 * The user's recovery key: with it a new phone has the user's identity, and reads earlier messages. Knows no view.
 */
package org.matrixmls.sample.android

import kotlinx.coroutines.flow.MutableStateFlow
import kotlinx.coroutines.flow.update
import org.matrixmls.IdentityState
import org.matrixmls.MlsMachine
import org.matrixmls.RecoveryKey
import org.matrixmls.RecoveryState
import org.matrixmls.Update
import org.matrixmls.createBackup
import org.matrixmls.drive
import org.matrixmls.updates

/** How the recovery key stands, and what the user may do about it. */
data class RecoveryShown(
    private val storage: RecoveryState,
    private val identity: IdentityState,
    /** A key that was just made, until the user has written it down. */
    val newKey: String? = null,
    /** How a restore goes, or why it came to nothing. */
    val news: String? = null,
) {
    val canSetUp: Boolean get() = storage is RecoveryState.Absent && identity is IdentityState.Complete

    val canRecover: Boolean get() = storage is RecoveryState.Present && identity is IdentityState.Incomplete

    val sentence: String
        get() = when (storage) {
            is RecoveryState.Unknown, is RecoveryState.Working -> "Looking for your recovery key."
            is RecoveryState.Absent -> "Without a recovery key, a new phone cannot read earlier messages."
            is RecoveryState.Present ->
                if (canRecover) "Type your recovery key to read earlier messages here." else "Your recovery key is set up."
            is RecoveryState.Unsupported -> "Another app has made your recovery key in a way that this one does not know."
        }
}

/** What the sample does about the recovery key. */
class Recovery(
    private val homeserver: Homeserver,
    private val machine: MlsMachine,
    private val shown: MutableStateFlow<Shown>,
) {
    /** Keeps what is shown as it is by now, for as long as it is not cancelled. */
    suspend fun watch() = machine.updates(onSubscribed = ::begin).collect { update ->
        when (update) {
            is Update.RecoveryChanged, is Update.IdentityStateChanged -> look()
            is Update.RecoveryFailed -> tell("${update.reason} (${update.code})")
            is Update.RestoreProgress -> tell("Restoring earlier messages: ${update.done} of ${update.total}")
            is Update.RestoreFinished -> tell(update.failures.firstOrNull()?.let { "Not everything came back (${it.code})" })
            else -> {}
        }
    }

    private suspend fun begin() {
        machine.identity().use { it.lookForRecovery() }
        look()
    }

    /**
     * Makes a key backup and a recovery key, under which the identity's private keys are kept as well. It is shown until
     * [keyIsWrittenDown].
     */
    suspend fun setUp() {
        // A set-up that was interrupted goes on with the backup that it has made.
        val known = machine.backup().use { it.recoveryKey() }
        (known ?: machine.createBackup(homeserver)).use { key ->
            machine.identity().use { it.storeSecrets(key, replace = false) }
            // Only now: the key of a backup that could not be made opens nothing.
            shown.update { it.copy(recovery = it.recovery?.copy(newKey = key.text())) }
        }
        machine.drive(homeserver)
    }

    /** The user has the new key. */
    fun keyIsWrittenDown() = shown.update { it.copy(recovery = it.recovery?.copy(newKey = null)) }

    /** Opens everything with the key that the user has typed. How it ends is told by updates. */
    suspend fun recover(typed: String) {
        RecoveryKey.parse(typed).use { key -> machine.identity().use { it.recoverWithHistory(key) } }
        machine.drive(homeserver)
    }

    private suspend fun look() {
        val (storage, identity) = machine.identity().use { it.recoveryState() to it.state() }
        shown.update { it.copy(recovery = RecoveryShown(storage, identity, it.recovery?.newKey, it.recovery?.news)) }
    }

    private fun tell(news: String?) = shown.update { it.copy(recovery = it.recovery?.copy(news = news)) }
}
