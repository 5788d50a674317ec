/**
 * The whole of what an app does around the machine, as one call: syncing, sending, waiting, and going on when the network
 * is back.
 */
package org.matrixmls

import java.io.IOException
import kotlinx.coroutines.coroutineScope
import kotlinx.coroutines.delay
import kotlinx.coroutines.launch

/** Gets syncs from the homeserver, with the app's HTTP client, filter and place to keep its position. */
public interface SyncSource {
    /**
     * Asks for the next sync, waiting for news as long as the app likes (`timeout`), and gives what [syncChangesFromResponse]
     * or [syncChangesFromSlidingSync] makes of the answer.
     *
     * Throws [IOException] when there was no answer, or none that is a sync: it is called again, after a pause that doubles
     * with each failure. Anything else that it throws ends [run].
     */
    @Throws(IOException::class)
    public suspend fun next(): SyncChanges

    /**
     * The machine has the sync on disk. Store [SyncChanges.nextBatch] now, and show what came. It is called once for each
     * sync, in order. What it throws ends [run].
     */
    public suspend fun received(changes: SyncChanges, summary: SyncSummary)
}

/** The first pause after a sync without an answer, and the longest. */
private const val FIRST_PAUSE_MS = 1_000L
private const val LONGEST_PAUSE_MS = 60_000L

/**
 * Syncs and sends what the machine has to send, until it is cancelled or something ends it. One call for an app's whole
 * life; [drive], [MlsMachine.receiveSync] and [MlsMachine.networkAvailable] are its parts.
 *
 * Without a network it waits, and goes on by itself: the first sync that has an answer again ends the waits of requests. A
 * sync that the store could not take for now (a full disk) is passed in again. Send messages beside it with [encrypt]. Two
 * of these at once would sync twice: run one.
 *
 * Never returns. Throws [MlsException.Unauthorized] when the homeserver refuses the access token: get another one, and run
 * it again; nothing is lost. Throws [MlsException.Suspended] and [MlsException.Closed] when the machine is suspended or
 * closed, other [MlsException]s when the store fails for good, and whatever [source] throws but [IOException].
 */
public suspend fun MlsMachine.run(transport: Transport, source: SyncSource): Nothing = coroutineScope {
    launch {
        while (true) {
            drive(transport)
            pause(ASK_AGAIN_MS)
        }
    }
    var pauseMs = FIRST_PAUSE_MS
    var isOffline = false
    while (true) {
        val changes = try {
            source.next()
        } catch (_: IOException) {
            isOffline = true
            delay(pauseMs)
            pauseMs = (pauseMs * 2).coerceAtMost(LONGEST_PAUSE_MS)
            continue
        }
        pauseMs = FIRST_PAUSE_MS
        if (isOffline) networkAvailable()
        isOffline = false
        source.received(changes, receive(changes))
    }
    @Suppress("UNREACHABLE_CODE")
    error("unreachable")
}

/** Takes a sync in, again and again where the store cannot for now. */
private suspend fun MlsMachine.receive(changes: SyncChanges): SyncSummary {
    while (true) {
        try {
            return receiveSync(changes)
        } catch (error: MlsException.StoreFull) {
            delay(FIRST_PAUSE_MS)
        } catch (error: MlsException.StoreIo) {
            delay(FIRST_PAUSE_MS)
        }
    }
}
