/** Making a key backup and bringing one back, each as one call that drives, and that ends or fails. */
package org.matrixmls

import kotlinx.coroutines.CancellationException
import kotlinx.coroutines.channels.Channel
import kotlinx.coroutines.coroutineScope
import kotlinx.coroutines.flow.Flow
import kotlinx.coroutines.flow.channelFlow
import kotlinx.coroutines.launch

/**
 * Makes a key backup, and gives its recovery key once the homeserver has the backup. Show the key only then: a key of a
 * backup that could not be made opens nothing.
 *
 * Without a [key] a new one is generated. Throws [MlsException.InvalidInput] with `"backup_exists"` if there is a backup
 * already and [replace] is false: have the user type its key, and call [restoreBackup]. Throws [MlsException.Rejected] with
 * the homeserver's own code if the homeserver refuses, and what [drive] throws. Waits without a network. Where this is
 * cancelled the backup may still be made; [MlsBackup.recoveryKey] has its key then.
 */
public suspend fun MlsMachine.createBackup(
    transport: Transport,
    key: RecoveryKey? = null,
    replace: Boolean = false,
): RecoveryKey {
    val made = key ?: RecoveryKey.generate()
    val heard = Channel<Update>(Channel.UNLIMITED)
    val subscription = subscribe(ChannelObserver(heard))
    try {
        backup().use { backup ->
            backup.create(made, replace)
            driving(transport) {
                for (update in heard) {
                    if (update is Update.BackupFailed) throw backupFailed(update.code, update.reason)
                    val isEnabled = (update as? Update.BackupChanged)?.state is BackupState.Enabled
                    if (isEnabled && backup.recoveryKey()?.use { it.text() } == made.text()) return@driving
                }
                throw closedHandle("MlsMachine")
            }
        }
        return made
    } catch (error: Throwable) {
        // Nobody else has a key that was generated here.
        if (key == null) made.close()
        throw error
    } finally {
        subscription.stop()
        subscription.close()
    }
}

/**
 * Goes on with the account's key backup and restores from it, with the key that the user has typed. Gives how that ended,
 * with what was left out, and tells the progress.
 *
 * Sends what it needs by itself. Ends or fails always, but waits without a network. Cancelling stops it; what was brought
 * back stays. Decrypt again afterwards what could not be read.
 *
 * Throws [MlsException.InvalidInput] if nothing could be restored at all: with `"wrong_key"` for another key than the
 * backup's, with `"no_backup"` if there is none, with `"unsupported_backup"` for one of an unknown kind. Throws
 * [MlsException.Rejected] with the homeserver's own code if the homeserver refuses, and what [drive] throws.
 */
public suspend fun MlsMachine.restoreBackup(
    transport: Transport,
    key: RecoveryKey,
    scope: RestoreScope = RestoreScope.AllRooms,
    onProgress: suspend (done: ULong, total: ULong) -> Unit = { _, _ -> },
): Restoring.Finished {
    backup().use { it.enable(key) }
    var finished: Restoring.Finished? = null
    restoring(transport, key, scope).collect { step ->
        when (step) {
            is Restoring.Begun -> {}
            is Restoring.Progress -> onProgress(step.done, step.total)
            is Restoring.Finished -> finished = step
        }
    }
    val end = finished ?: throw closedHandle("MlsMachine")
    val failure = end.failures.singleOrNull()
    if (end.epochs == 0uL && failure != null && failure.isOfAll) throw backupFailed(failure.code, failure.reason)
    return end
}

/**
 * Like [restoring] without a transport, and sends what the restore needs: the flow completes after
 * [Restoring.Finished], or fails with what [drive] throws, or with [MlsException.Closed] when the machine is shut down.
 */
public fun MlsMachine.restoring(
    transport: Transport,
    key: RecoveryKey? = null,
    scope: RestoreScope = RestoreScope.AllRooms,
): Flow<Restoring> = channelFlow {
    driving(transport) {
        var isFinished = false
        restoring(key, scope).collect { step ->
            isFinished = step is Restoring.Finished
            send(step)
        }
        if (!isFinished) throw closedHandle("MlsMachine")
    }
}

/** Runs a block and sends what the machine has to send, until the block is done or sending fails. */
private suspend fun MlsMachine.driving(transport: Transport, block: suspend () -> Unit): Unit = coroutineScope {
    val driving = launch {
        while (true) {
            drive(transport)
            pause(ASK_AGAIN_MS)
        }
    }
    block()
    driving.cancel(CancellationException("nothing has to be sent for this any more"))
}

/** Whether it is about the whole restore, and not about single sessions. */
private val HistoryFailure.isOfAll: Boolean
    get() = code in listOf("wrong_key", "no_backup", "unsupported_backup") || code.startsWith("M_") ||
        code.startsWith("HTTP_")

private fun backupFailed(code: String, reason: String): MlsException {
    val details = ErrorDetails(code, reason, retryable = false)
    val isOfServer = code.startsWith("M_") || code.startsWith("HTTP_")
    return if (isOfServer) MlsException.Rejected(details) else MlsException.InvalidInput(details)
}
