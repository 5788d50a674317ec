/** What notifications say of events that are no text. */
package org.matrixmls.android

import org.junit.Assert.assertEquals
import org.junit.Assert.assertNull
import org.junit.Test
import org.junit.runner.RunWith
import org.matrixmls.sample.android.PushWords
import org.robolectric.RobolectricTestRunner
import org.robolectric.annotation.Config

@RunWith(RobolectricTestRunner::class)
@Config(sdk = [34])
class PushWordsTest {
    private fun message(content: String) = PushWords.of("m.room.message", content)

    @Test
    fun `a message says its text, or what else was sent`() {
        assertEquals("Tea?", message("""{"msgtype":"m.text","body":"Tea?"}"""))
        assertEquals("sent a picture", message("""{"msgtype":"m.image","body":"IMG_0001.jpg"}"""))
        assertEquals(500, message("""{"msgtype":"m.text","body":"${"e".repeat(900)}"}""")?.length)
    }

    @Test
    fun `an edit says what is new`() {
        val edit = """{"body":"* Tea at five","m.new_content":{"msgtype":"m.text","body":"Tea at five"}}"""
        assertEquals("Tea at five", message(edit))
    }

    @Test
    fun `other events have words too`() {
        val reaction = """{"m.relates_to":{"rel_type":"m.annotation","event_id":"e","key":"+1"}}"""
        assertEquals("reacted with +1", PushWords.of("m.reaction", reaction))
        val words = mapOf(
            "m.sticker" to "sent a sticker", "m.poll.start" to "started a poll", "m.poll.end" to "ended a poll",
            "org.matrix.msc3381.poll.response" to "voted in a poll", "m.call.invite" to "is calling",
        )
        for ((type, text) in words) assertEquals(text, PushWords.of(type, "{}"))
    }

    @Test
    fun `what says nothing has no words`() {
        for (content in listOf("{}", """{"body":""}""", """{"body":7}""", "[]", "no json")) assertNull(message(content))
        for (content in listOf("{}", """{"m.relates_to":7}""", """{"m.relates_to":{"key":""}}""")) {
            assertNull(PushWords.of("m.reaction", content))
        }
        assertNull(PushWords.of("org.example.x", "{}"))
    }
}
