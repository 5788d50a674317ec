/**
 * What an app watches, as a [Flow], and a machine's lifetime, as a block: the two things that the
 * generated code cannot say.
 */
package org.matrixmls

import kotlinx.coroutines.NonCancellable
import kotlinx.coroutines.channels.Channel
import kotlinx.coroutines.channels.SendChannel
import kotlinx.coroutines.channels.awaitClose
import kotlinx.coroutines.flow.Flow
import kotlinx.coroutines.flow.buffer
import kotlinx.coroutines.flow.callbackFlow
import kotlinx.coroutines.withContext

/**
 * What changes, from the moment of collecting on. Each collection has its own subscription, which ends
 * with it; the flow completes when the machine is shut down. None is lost to a slow collector: they
 * wait in memory.
 *
 * [onSubscribed] is called once nothing is lost any more. Look at the state there: a change between
 * looking and collecting would be missed otherwise.
 */
public fun MlsMachine.updates(onSubscribed: suspend () -> Unit = {}): Flow<Update> = callbackFlow {
    val subscription = subscribe(ChannelObserver(channel))
    onSubscribed()
    awaitClose {
        subscription.stop()
        subscription.close()
    }
}.buffer(Channel.UNLIMITED)

/** Hands what the engine tells to a channel, and closes that in the end. */
internal class ChannelObserver(private val channel: SendChannel<Update>) : UpdateObserver {
    override fun onUpdate(update: Update) {
        channel.trySend(update)
    }

    override fun onEnd() {
        channel.close()
    }
}

/**
 * Runs a block with this machine and shuts it down in the end, however that comes about: the store is
 * closed when this returns, also when rooms of it are still held.
 */
public suspend inline fun <R> MlsMachine.use(block: (MlsMachine) -> R): R {
    try {
        return block(this)
    } finally {
        withContext(NonCancellable) { shutdown() }
        close()
    }
}
