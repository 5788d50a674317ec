/** A recovery key is made on one phone and typed in the app on another. */
package org.matrixmls.android

import android.widget.TextView
import kotlinx.coroutines.CoroutineScope
import kotlinx.coroutines.Dispatchers
import kotlinx.coroutines.cancelAndJoin
import kotlinx.coroutines.launch
import kotlinx.coroutines.runBlocking
import org.junit.Assert.assertEquals
import org.junit.Assert.assertFalse
import org.junit.Test

class RecoveryTest : AppTest() {
    @Test
    fun `a new phone reads what was said once the key is typed`() {
        val old = other("alice")
        val loop = CoroutineScope(Dispatchers.Default).launch { old.run() }
        val room = runBlocking { old.createRoom(emptyList()).also { old.send(it, "from the old days") } }
        await("that there is no key") { old.shown.value.recovery?.takeIf { it.canSetUp } }
        runBlocking { old.recovery.setUp() }
        val key = checkNotNull(old.shown.value.recovery?.newKey)
        await("that it is set up") { old.shown.value.recovery?.takeIf { it.sentence == "Your recovery key is set up." } }
        old.recovery.keyIsWrittenDown()

        val app = start()
        enter(app, isNew = false)
        app.text("recovery", "Type your recovery key")
        app.press(room)
        val closed = app.text("lines", "message")
        assertFalse(closed, closed.contains("from the old days"))
        @Suppress("DEPRECATION")
        app.get().onBackPressed()
        app.type("recovery-key", key.dropLast(1))
        app.press("recover")
        app.text("status", "recovery key")
        app.type("recovery-key", key)
        app.press("recover")
        app.text("recovery", "Your recovery key is set up.")
        app.press(room)
        app.text("lines", "from the old days")
        app.end()
        runBlocking {
            loop.cancelAndJoin()
            old.close()
        }
    }

    @Test
    fun `the app makes a key and shows it until it is written down`() {
        val app = start()
        enter(app)
        app.text("recovery", "Without a recovery key")
        app.press("set-up")
        val key = app.text("new-key", "Es")
        app.text("recovery", "Your recovery key is set up.")
        assertEquals(key, app.view<TextView>("new-key")?.text.toString())
        app.press("written")
        await("no key") { if (app.view<TextView>("new-key") == null) Unit else null }
        app.end()
    }
}
