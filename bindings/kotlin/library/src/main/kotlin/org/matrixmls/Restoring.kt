/**
 * Bringing history back from the key backup, as a [Flow]: the generated code has an id, and updates among all others.
 */
package org.matrixmls

import kotlinx.coroutines.NonCancellable
import kotlinx.coroutines.channels.Channel
import kotlinx.coroutines.flow.Flow
import kotlinx.coroutines.flow.flow
import kotlinx.coroutines.withContext

/** What is heard of a restore. */
public sealed interface Restoring {
    /** Its requests wait to be sent: run [drive]. */
    public data class Begun(
        /** Its id in [MlsBackup.restores], the same for whoever asked for the same. */
        public val id: ULong,
    ) : Restoring

    /** Sessions were taken. */
    public data class Progress(
        /** How many were taken or found wrong. */
        public val done: ULong,
        /** How many there are. */
        public val total: ULong,
    ) : Restoring

    /** It has come to its end; nothing follows. */
    public data class Finished(
        /** How many epochs became readable that were not before. */
        public val epochs: ULong,
        /** What was left out, and why. */
        public val failures: List<HistoryFailure>,
    ) : Restoring
}

/**
 * Restores from the key backup when it is collected, and says how that goes; without a key, with that of the enabled
 * backup. What it takes from the homeserver is fetched by [drive], which runs beside it.
 *
 * Cancelling the collection stops the restore; what it has brought back stays. One that no screen waits for is begun
 * with [MlsBackup.restore]. When the machine is shut down the flow completes without [Restoring.Finished], and the
 * restore goes on once the machine is opened again; collecting the same again then joins it.
 */
public fun MlsMachine.restoring(
    key: RecoveryKey? = null,
    scope: RestoreScope = RestoreScope.AllRooms,
): Flow<Restoring> = flow {
    val heard = Channel<Update>(Channel.UNLIMITED)
    // Before it begins, so that nothing is missed.
    val subscription = subscribe(ChannelObserver(heard))
    val backup = backup()
    var running: ULong? = null
    try {
        // Cancelled half-way it would have begun, and nobody would know its id.
        val id = withContext(NonCancellable) { backup.restore(key, scope) }
        running = id
        emit(Restoring.Begun(id))
        for (update in heard) {
            when {
                update is Update.RestoreProgress && update.restore == id ->
                    emit(Restoring.Progress(update.done, update.total))
                update is Update.RestoreFinished && update.restore == id -> {
                    running = null
                    emit(Restoring.Finished(update.epochs, update.failures))
                    return@flow
                }
            }
        }
        running = null
    } finally {
        subscription.stop()
        subscription.close()
        running?.let { id -> withContext(NonCancellable) { backup.stopRestore(id) } }
        backup.close()
    }
}

/** In a machine that was shut down or is suspended there is nothing to stop. */
private suspend fun MlsBackup.stopRestore(id: ULong) {
    try {
        cancelRestore(id)
    } catch (_: MlsException.Closed) {
        // It goes on with the store.
    } catch (_: MlsException.Suspended) {
        // It goes on when the machine is resumed.
    }
}
