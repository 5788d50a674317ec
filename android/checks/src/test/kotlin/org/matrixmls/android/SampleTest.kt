/** The sample app under Robolectric, against a homeserver, with a plain machine as the other device. */
package org.matrixmls.android

import android.graphics.Color
import android.text.Spanned
import android.text.style.ForegroundColorSpan
import android.widget.EditText
import android.widget.TextView
import kotlinx.coroutines.CoroutineScope
import kotlinx.coroutines.Dispatchers
import kotlinx.coroutines.cancelAndJoin
import kotlinx.coroutines.launch
import kotlinx.coroutines.runBlocking
import org.junit.Assert.assertEquals
import org.junit.Assert.assertTrue
import org.junit.Test
import org.matrixmls.VerificationState

class SampleTest : AppTest() {
    @Test
    fun `two devices talk through the app, and it goes on where it was after a restart`() {
        val bob = other()
        var app = start()
        enter(app)
        val room = roomWith(app, bob)
        app.type("text", "Hello from the app")
        app.press("send")
        app.text("lines", "Hello from the app")
        await("what Bob reads") {
            runBlocking { bob.sync() }
            bob.shown.value.timelines[room]?.takeIf { lines -> lines.any { it.text == "Hello from the app" } }
        }
        runBlocking { bob.send(room, "Hello from Bob") }
        app.text("lines", "@bob-$tag")
        app.text("lines", "Hello from Bob")
        assertEquals("", app.view<EditText>("text")!!.text.toString())

        // Turned around: a new activity on the same session.
        app.recreate()
        app.text("lines", "Hello from Bob")

        app.end()
        restart()
        app = start()
        app.press(room)
        val lines = app.text("lines", "Hello from Bob")
        assertTrue(lines, lines.contains("Hello from the app"))
        app.end()
        runBlocking { bob.close() }
    }

    @Test
    fun `two people compare emojis, and one whose identity changes is a choice`() {
        val bob = other()
        val loop = CoroutineScope(Dispatchers.Default).launch { bob.run() }
        val app = start()
        enter(app)
        app.type("invite", bob.userId)
        app.press("verify")
        val asked = await("who asks Bob") { bob.shown.value.comparison?.takeIf { it.isIncoming } }
        runBlocking { bob.trust.answer(asked) }
        val comparing = await("Bob's emojis") {
            bob.shown.value.comparison?.takeIf { it.state is VerificationState.Comparing }
        }
        val emojis = (comparing.state as VerificationState.Comparing).emojis
        assertEquals(7, emojis.size)
        val shown = app.text("comparison", "Does ${bob.userId} see the same?")
        assertEquals(emojis.map { "${it.symbol} ${it.description}" }, shown.lines().drop(1))
        app.press("match")
        runBlocking { bob.trust.match(comparing) }
        app.text("comparison", "You have verified ${bob.userId}")
        app.press("leave")
        await("no comparison") { app.view<TextView>("comparison").let { if (it == null) Unit else null } }

        app.type("invite", bob.userId)
        app.press("create")
        await("the timeline") { app.view<TextView>("lines") }
        val room = await("the room") { bob.shown.value.rooms.singleOrNull() }
        runBlocking { bob.timelines.open(room) }
        app.type("text", "to a verified Bob")
        app.press("send")
        await("what Bob reads") { bob.shown.value.timelines[room]?.find { it.text == "to a verified Bob" } }
        runBlocking { bob.send(room, "from a verified Bob") }
        val line = app.text("lines", "from a verified Bob").lines().last()
        assertEquals("no shield", "${bob.userId}: from a verified Bob", line)

        runBlocking { bob.resetIdentity("secret") }
        app.text("changed", "You verified ${bob.userId}")
        val warned = app.text("lines", "their identity is another now")
        val spanned = app.view<TextView>("lines")!!.text as Spanned
        val colour = spanned.getSpans(0, warned.length, ForegroundColorSpan::class.java).last()
        assertEquals(Color.RED, colour.foregroundColor)
        val red = warned.substring(spanned.getSpanStart(colour), spanned.getSpanEnd(colour))
        assertEquals("You verified this user, but their identity is another now.", red)
        app.type("text", "is it you?")
        app.press("send")
        app.text("status", bob.userId)
        app.press("accept")
        await("no warning") { app.view<TextView>("changed").let { if (it == null) Unit else null } }
        app.type("text", "it is")
        app.press("send")
        await("what Bob reads then") { bob.shown.value.timelines[room]?.find { it.text == "it is" } }
        app.end()
        runBlocking {
            loop.cancelAndJoin()
            bob.close()
        }
    }

    @Test
    fun `what goes wrong is shown`() {
        val app = start()
        app.type("url", homeserver)
        app.type("user", "nobody-$tag")
        app.type("password", "wrong")
        app.press("enter")
        await("a sentence") { app.view<TextView>("status")?.text?.toString()?.ifEmpty { null } }
        app.type("url", "http://127.0.0.1:9")
        app.press("enter")
        app.text("status", "refused")
        app.end()
    }
}
