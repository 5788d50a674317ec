/** The sample app under Robolectric, against a homeserver, with a plain machine as the other device. */
package org.matrixmls.android

import android.graphics.Color
import android.os.Looper
import android.text.Spanned
import android.text.style.ForegroundColorSpan
import android.view.View
import android.widget.CheckBox
import android.widget.EditText
import android.widget.LinearLayout
import android.widget.TextView
import java.io.File
import java.nio.file.Files
import java.util.UUID
import kotlinx.coroutines.CoroutineScope
import kotlinx.coroutines.Dispatchers
import kotlinx.coroutines.cancelAndJoin
import kotlinx.coroutines.launch
import kotlinx.coroutines.runBlocking
import org.junit.After
import org.junit.Assert.assertEquals
import org.junit.Assert.assertTrue
import org.junit.Before
import org.junit.Test
import org.junit.runner.RunWith
import org.matrixmls.VerificationState
import org.matrixmls.sample.android.Device
import org.matrixmls.sample.android.MainActivity
import org.matrixmls.sample.android.Session
import org.robolectric.Robolectric
import org.robolectric.RobolectricTestRunner
import org.robolectric.Shadows.shadowOf
import org.robolectric.android.controller.ActivityController
import org.robolectric.annotation.Config

@RunWith(RobolectricTestRunner::class)
@Config(sdk = [34])
class SampleTest {
    private val homeserver = checkNotNull(System.getenv("MATRIX_MLS_HOMESERVER")) {
        "MATRIX_MLS_HOMESERVER is not set: run these tests with `cargo xtask test`"
    }
    private val tag = UUID.randomUUID().toString().take(8)
    private val wrapper = MemoryWrapper()

    @Before
    fun keys() {
        Device.keys = { context ->
            val key = KeystoreStoreKey(File(context.noBackupFilesDir, "matrix-mls.key"), wrapper);
            { key.get() }
        }
    }

    @After
    fun forget() = restart()

    /** As when the process ends: only what is on disk is left. */
    private fun restart() {
        val activity = Robolectric.buildActivity(MainActivity::class.java).get()
        runBlocking { Device.of(activity).stop() }
        Device.forget()
    }

    private fun <V : View> ActivityController<MainActivity>.view(name: String): V? =
        get().findViewById<View>(android.R.id.content).findViewWithTag(name)

    /** Lets the app's threads and its main thread work until something is there. */
    private fun <T : Any> await(what: String, look: () -> T?): T {
        repeat(6_000) {
            shadowOf(Looper.getMainLooper()).idle()
            look()?.let { return it }
            Thread.sleep(10)
        }
        error("never seen: $what")
    }

    private fun ActivityController<MainActivity>.text(name: String, shows: String): String = await("“$shows” in $name") {
        view<TextView>(name)?.text?.toString()?.takeIf { it.contains(shows) }
    }

    private fun ActivityController<MainActivity>.type(name: String, text: String) {
        await(name) { view<EditText>(name) }.setText(text)
    }

    private fun ActivityController<MainActivity>.press(name: String) {
        await(name) { view<View>(name) }.performClick()
    }

    private fun other(): Session = runBlocking {
        val directory = Files.createTempDirectory("other").toFile()
        val key = KeystoreStoreKey(File(directory.parentFile, "${directory.name}.key"), MemoryWrapper())
        Session.enter(directory, { key.get() }, Session.Login(homeserver, "bob-$tag", "secret", true))
            .also { it.sync() }
    }

    private fun enter(app: ActivityController<MainActivity>) {
        app.type("url", homeserver)
        app.type("user", "alice-$tag")
        app.type("password", "secret")
        await("new") { app.view<CheckBox>("new") }.isChecked = true
        app.press("enter")
        await("the rooms") { app.view<LinearLayout>("room-list") }
    }

    @Test
    fun `two devices talk through the app, and it goes on where it was after a restart`() {
        val bob = other()
        var app = Robolectric.buildActivity(MainActivity::class.java).setup()
        enter(app)
        app.type("invite", bob.userId)
        app.press("create")
        await("the timeline") { app.view<TextView>("lines") }
        val room = runBlocking {
            bob.sync()
            bob.sync()
            bob.shown.value.rooms
        }.ifEmpty { await("the room") { runBlocking { bob.sync(); bob.shown.value.rooms.ifEmpty { null } } } }.single()

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

        app.pause().stop().destroy()
        restart()
        app = Robolectric.buildActivity(MainActivity::class.java).setup()
        app.press(room)
        val lines = app.text("lines", "Hello from Bob")
        assertTrue(lines, lines.contains("Hello from the app"))
        app.pause().stop().destroy()
        runBlocking { bob.close() }
    }

    @Test
    fun `two people compare emojis, and one whose identity changes is a choice`() {
        val bob = other()
        val loop = CoroutineScope(Dispatchers.Default).launch { bob.run() }
        val app = Robolectric.buildActivity(MainActivity::class.java).setup()
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
        app.pause().stop().destroy()
        runBlocking {
            loop.cancelAndJoin()
            bob.close()
        }
    }

    @Test
    fun `what goes wrong is shown`() {
        val app = Robolectric.buildActivity(MainActivity::class.java).setup()
        app.type("url", homeserver)
        app.type("user", "nobody-$tag")
        app.type("password", "wrong")
        app.press("enter")
        await("a sentence") { app.view<TextView>("status")?.text?.toString()?.ifEmpty { null } }
        app.type("url", "http://127.0.0.1:9")
        app.press("enter")
        app.text("status", "refused")
        app.pause().stop().destroy()
    }
}
