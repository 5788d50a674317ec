/**
 * From a push to a notification's words. A push names an event; a reader beside the machine opens it, also while the app does
 * not run. Knows no view.
 */
package org.matrixmls.sample.android

import java.io.File
import kotlinx.coroutines.CancellationException
import org.matrixmls.DecryptedMessage
import org.matrixmls.MlsReader
import org.matrixmls.StoreKey
import org.matrixmls.Verdict
import org.matrixmls.decrypt
import org.matrixmls.isCommitEvent

/** What a notification says. */
data class Notice(val title: String, val text: String)

/** Reads what pushes name, for the device that is logged in. */
class Push(private val directory: File, private val storeKey: () -> StoreKey) {
    /** What to show for an event; null where there is nothing to show. It never fails: there is always something to say. */
    suspend fun notice(roomId: String, eventId: String): Notice? = try {
        val homeserver = Session.homeserver(directory)
        val path = "/_matrix/client/v3/rooms/${quote(roomId)}/event/${quote(eventId)}"
        val event = homeserver.call("GET", path).toString()
        // A commit says nothing to people.
        if (isCommitEvent(event)) null else words(read(roomId, event, homeserver))
    } catch (error: CancellationException) {
        throw error
    } catch (_: Exception) {
        // Whatever it was, there is a message: the app shows it once it has synced.
        GENERIC
    }

    /** The reader takes no lock and writes nothing. What the machine has not seen yet it fetches, and follows in memory. */
    private suspend fun read(roomId: String, event: String, homeserver: Homeserver): DecryptedMessage =
        MlsReader.open(File(directory, "mls").path, storeKey()).use { it.decrypt(roomId, event, homeserver) }

    private fun words(message: DecryptedMessage): Notice {
        // Somebody lies about who has sent it.
        if (message.verdict == Verdict.CONFLICTING) return GENERIC
        val text = PushWords.of(message.eventType, message.content) ?: return GENERIC
        return Notice(message.senderUserId, text)
    }

    companion object {
        /** What a push shows that cannot be read here. */
        val GENERIC = Notice("New message", "You have a new message")
    }
}
