/** What the tests of the sample app stand on: the app under Robolectric, a homeserver, and another person's device. */
package org.matrixmls.android

import android.os.Looper
import android.view.View
import android.widget.CheckBox
import android.widget.EditText
import android.widget.LinearLayout
import android.widget.TextView
import java.io.File
import java.nio.file.Files
import java.util.UUID
import kotlinx.coroutines.runBlocking
import org.junit.After
import org.junit.Before
import org.junit.runner.RunWith
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
abstract class AppTest {
    protected val homeserver = checkNotNull(System.getenv("MATRIX_MLS_HOMESERVER")) {
        "MATRIX_MLS_HOMESERVER is not set: run these tests with `cargo xtask test`"
    }
    protected val tag = UUID.randomUUID().toString().take(8)
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
    protected fun restart() {
        val activity = Robolectric.buildActivity(MainActivity::class.java).get()
        runBlocking { Device.of(activity).stop() }
        Device.forget()
    }

    protected fun <V : View> ActivityController<MainActivity>.view(name: String): V? =
        get().findViewById<View>(android.R.id.content).findViewWithTag(name)

    /** Lets the app's threads and its main thread work until something is there. `now` is what is there otherwise. */
    protected fun <T : Any> await(what: String, now: () -> CharSequence? = { null }, look: () -> T?): T {
        repeat(6_000) {
            shadowOf(Looper.getMainLooper()).idle()
            look()?.let { return it }
            Thread.sleep(10)
        }
        error("never seen: $what; now: ${now()}")
    }

    protected fun ActivityController<MainActivity>.text(name: String, shows: String): String =
        await("“$shows” in $name", { view<TextView>(name)?.text }) {
            view<TextView>(name)?.text?.toString()?.takeIf { it.contains(shows) }
        }

    protected fun ActivityController<MainActivity>.type(name: String, text: String) {
        await(name) { view<EditText>(name) }.setText(text)
    }

    protected fun ActivityController<MainActivity>.press(name: String) {
        await(name) { view<View>(name) }.performClick()
    }

    protected fun start(): ActivityController<MainActivity> = Robolectric.buildActivity(MainActivity::class.java).setup()

    protected fun ActivityController<MainActivity>.end() {
        pause().stop().destroy()
    }

    /** The device of another person, or another one of a person who has an account. It has synced once. */
    protected fun other(name: String = "bob", isNew: Boolean = true): Session = runBlocking {
        val directory = Files.createTempDirectory("other").toFile()
        val key = KeystoreStoreKey(File(directory.parentFile, "${directory.name}.key"), MemoryWrapper())
        Session.enter(directory, { key.get() }, Session.Login(homeserver, "$name-$tag", "secret", isNew))
            .also { it.sync() }
    }

    /** Registers Alice in the app, or logs her in. */
    protected fun enter(app: ActivityController<MainActivity>, isNew: Boolean = true) {
        app.type("url", homeserver)
        app.type("user", "alice-$tag")
        app.type("password", "secret")
        await("new") { app.view<CheckBox>("new") }.isChecked = isNew
        app.press("enter")
        await("the rooms") { app.view<LinearLayout>("room-list") }
    }

    /** Has the app make a room with somebody, and open it. Gives its id. The other one looks at it as well. */
    protected fun roomWith(app: ActivityController<MainActivity>, other: Session): String {
        app.type("invite", other.userId)
        app.press("create")
        await("the timeline") { app.view<TextView>("lines") }
        return await("the room") {
            runBlocking { other.sync() }
            other.shown.value.rooms.singleOrNull()
        }.also { runBlocking { other.timelines.open(it) } }
    }
}
