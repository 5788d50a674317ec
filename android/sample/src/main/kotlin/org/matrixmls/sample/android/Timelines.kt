/**
 * What was said in the rooms: the messages with their shields, and in place of the others why they cannot be read. Knows no
 * view.
 */
package org.matrixmls.sample.android

import java.io.IOException
import kotlinx.coroutines.flow.MutableStateFlow
import kotlinx.coroutines.flow.update
import org.json.JSONArray
import org.json.JSONException
import org.json.JSONObject
import org.matrixmls.DecryptedMessage
import org.matrixmls.EventOutcome
import org.matrixmls.EventResult
import org.matrixmls.MlsException
import org.matrixmls.MlsMachine
import org.matrixmls.UnreadableCause
import org.matrixmls.Update
import org.matrixmls.code
import org.matrixmls.isCommitEvent
import org.matrixmls.updates

/** A line of a room: a message with its shield, if it has one, or the sentence why it cannot be read. */
data class Line(
    val id: String,
    val sender: String,
    val text: String,
    val badge: Badge? = null,
    val isReadable: Boolean = true,
)

/** A message that was opened. */
internal fun line(id: String, message: DecryptedMessage): Line {
    val text = runCatching { JSONObject(message.content).getString("body") }.getOrDefault(message.eventType)
    return Line(id, message.senderUserId, text, badge(message.verdict))
}

/** An event that was not; nothing where it says nothing to people. */
internal fun unreadable(event: JSONObject, error: MlsException): Line? {
    val (id, sender) = event.optString("event_id") to event.optString("sender")
    return whyUnreadable(error)?.let { Line(id, sender, it, isReadable = false) }
}

/** Why an event cannot be read, as a sentence. */
internal fun whyUnreadable(error: MlsException): String? = when (error.unreadableCause()) {
    UnreadableCause.BEFORE_JOINING -> "You don't have access to messages sent before you joined."
    UnreadableCause.NOT_YET_HERE -> "Waiting for this message."
    UnreadableCause.LOST -> "This message could not be decrypted."
    UnreadableCause.DAMAGED -> "This message is damaged."
    UnreadableCause.FORGED -> "This message was not sent by this person."
    UnreadableCause.DELETED -> "This message is no longer kept."
    UnreadableCause.REDACTED -> "Deleted."
    UnreadableCause.OTHER_ENCRYPTION -> "This message is not encrypted with MLS."
    UnreadableCause.COMMIT -> null
    null -> "This message cannot be read (${error.code})."
}

/** With a line in the place of the same event, or at the end. What was read stays read. */
internal fun List<Line>.with(line: Line): List<Line> {
    val index = indexOfFirst { it.id == line.id }
    if (index < 0) return this + line
    return if (line.isReadable || !this[index].isReadable) toMutableList().also { it[index] = line } else this
}

/** The timelines of one device's rooms. */
class Timelines(
    private val homeserver: Homeserver,
    private val machine: MlsMachine,
    private val shown: MutableStateFlow<Shown>,
) {
    /** Fills a room's timeline from the homeserver's history: the messages open again, however old. */
    suspend fun open(roomId: String) {
        val before = shown.value.timelines[roomId].orEmpty().map { it.id }.toSet()
        // From now on syncs add what they bring.
        shown.update { it.copy(timelines = it.timelines + (roomId to it.timelines[roomId].orEmpty())) }
        val page = homeserver.call("GET", "/_matrix/client/v3/rooms/${quote(roomId)}/messages?dir=b&limit=50")
        val room = machine.room(roomId)
        val lines = mutableListOf<Line>()
        val chunk = page.getJSONArray("chunk")
        for (index in chunk.length() - 1 downTo 0) {
            val event = chunk.getJSONObject(index)
            if (event.optString("type") != "m.room.encrypted" || isCommitEvent(event.toString())) continue
            lines += try {
                line(event.optString("event_id"), room.decrypt(event.toString()))
            } catch (error: MlsException) {
                unreadable(event, error) ?: continue
            }
        }
        val read = lines.associate { it.id to it.isReadable }
        shown.update { now ->
            // What a sync brought or opened meanwhile. Otherwise what was read now is newer, as its shield is.
            val meanwhile = now.timelines[roomId].orEmpty().filter {
                if (it.id in read) it.isReadable && read[it.id] == false else it.id !in before
            }
            now.copy(timelines = now.timelines + (roomId to meanwhile.fold(lines.toList()) { kept, line -> kept.with(line) }))
        }
    }

    /** Adds what a sync brought to the timelines that somebody looks at. */
    suspend fun take(synced: Synced) {
        for (room in synced.summary.rooms.filter { it.roomId in shown.value.timelines }) {
            val told = synced.response.optJSONObject("rooms")?.optJSONObject(room.roomId) ?: JSONObject()
            val events = told.optJSONArray("timeline") ?: JSONArray()
            val byId = (0 until events.length()).map { events.getJSONObject(it) }.associateBy { it.optString("event_id") }
            val lines = room.events.mapNotNull { lineOf(it, byId[it.eventId]) }
            shown.update {
                val timeline = lines.fold(it.timelines[room.roomId].orEmpty()) { kept, line -> kept.with(line) }
                it.copy(timelines = it.timelines + (room.roomId to timeline))
            }
            // What was left out belongs before what came.
            if (told.optBoolean("limited")) reopen(listOf(room.roomId))
        }
    }

    /** An event that has waited has its result in a later sync, which does not have the event. */
    private fun lineOf(result: EventResult, event: JSONObject?): Line? {
        val id = result.eventId ?: return null
        val error = when (val outcome = result.outcome) {
            is EventOutcome.Message -> return line(id, outcome.message)
            is EventOutcome.Waiting -> outcome.error
            is EventOutcome.Failed -> outcome.error
            else -> return null
        }
        if (event?.optString("type") != "m.room.encrypted" || isCommitEvent(event.toString())) return null
        return unreadable(event, error)
    }

    /** Keeps the timelines as they are by now, for as long as it is not cancelled. */
    suspend fun watch() = machine.updates().collect { update ->
        when (update) {
            // Shields may be others.
            is Update.TrustChanged -> reopen(shown.value.timelines.keys)
            // More may open than before.
            is Update.Joined, is Update.EpochChanged, is Update.CatchingUp, is Update.HistoryShared, is Update.RestoreFinished ->
                reopen(shown.value.timelines.filterValues { lines -> lines.any { !it.isReadable } }.keys)
            else -> {}
        }
    }

    private suspend fun reopen(roomIds: Collection<String>) {
        for (roomId in roomIds) {
            try {
                open(roomId)
            } catch (_: IOException) {
                // The lines are old until the room is opened again.
            } catch (_: JSONException) {
                // So they are where the homeserver's answer makes no sense.
            }
        }
    }
}
