/** The words of notifications, in one place so that an app can say them in its user's language. Knows no view. */
package org.matrixmls.sample.android

import org.json.JSONException
import org.json.JSONObject

/** What a notification says of an event. */
object PushWords {
    /** The bodies of messages that are no text, by their `msgtype`. */
    private val ATTACHMENTS = mapOf(
        "m.image" to "sent a picture",
        "m.video" to "sent a video",
        "m.audio" to "sent a recording",
        "m.file" to "sent a file",
        "m.location" to "sent a place",
    )

    /** The bodies of events that are no messages, by their type. Some clients send the names of the proposals. */
    private val KINDS = mapOf(
        "m.sticker" to "sent a sticker",
        "m.poll.start" to "started a poll",
        "m.poll.response" to "voted in a poll",
        "m.poll.end" to "ended a poll",
        "org.matrix.msc3381.poll.start" to "started a poll",
        "org.matrix.msc3381.poll.response" to "voted in a poll",
        "org.matrix.msc3381.poll.end" to "ended a poll",
        "m.call.invite" to "is calling",
        "m.rtc.notification" to "is calling",
        "org.matrix.msc4075.rtc.notification" to "is calling",
    )

    /** What an event of this type and content says; null where it has no words. */
    fun of(eventType: String, content: String): String? {
        val event = try {
            JSONObject(content)
        } catch (_: JSONException) {
            return null
        }
        val words = when (eventType) {
            // An edit says what is new, and the body beside that is for clients that know no edits.
            "m.room.message" -> message(event.optJSONObject("m.new_content") ?: event)
            "m.reaction" -> text(event.optJSONObject("m.relates_to"), "key")?.let { "reacted with $it" }
            else -> KINDS[eventType]
        }
        return words?.take(LONGEST)
    }

    private fun message(content: JSONObject): String? = ATTACHMENTS[text(content, "msgtype")] ?: text(content, "body")

    /** A field that is a text with something in it. */
    private fun text(content: JSONObject?, field: String): String? = (content?.opt(field) as? String)?.ifEmpty { null }

    /** How many characters are shown; the system cuts long ones off anyway. */
    private const val LONGEST = 500
}
