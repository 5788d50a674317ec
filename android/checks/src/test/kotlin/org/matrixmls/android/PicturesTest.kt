/**
 * Pictures of the sample's screens, as Robolectric draws them with Android's own code. They are written to
 * `target/pictures`; `docs/pictures` has those that the pages show.
 */
package org.matrixmls.android

import android.app.Activity
import android.graphics.Bitmap
import android.graphics.BitmapFactory
import android.graphics.Canvas
import android.graphics.Color
import android.graphics.Rect
import android.os.Looper
import android.view.View
import android.view.ViewGroup
import android.widget.LinearLayout
import java.io.File
import kotlin.math.abs
import org.junit.Assert.assertEquals
import org.junit.Assert.assertTrue
import org.junit.Test
import org.junit.runner.RunWith
import org.matrixmls.IdentityState
import org.matrixmls.RecoveryState
import org.matrixmls.SasEmoji
import org.matrixmls.VerificationState
import org.matrixmls.sample.android.Badge
import org.matrixmls.sample.android.ChangedIdentity
import org.matrixmls.sample.android.Comparison
import org.matrixmls.sample.android.Line
import org.matrixmls.sample.android.RecoveryActions
import org.matrixmls.sample.android.RecoveryShown
import org.matrixmls.sample.android.Screen
import org.matrixmls.sample.android.TrustActions
import org.robolectric.Robolectric
import org.robolectric.RobolectricTestRunner
import org.robolectric.Shadows.shadowOf
import org.robolectric.annotation.Config
import org.robolectric.annotation.GraphicsMode

@RunWith(RobolectricTestRunner::class)
@Config(sdk = [34], qualifiers = "w320dp-h480dp-hdpi")
@GraphicsMode(GraphicsMode.Mode.NATIVE)
class PicturesTest {
    private val decisions = TrustActions({}, {}, {}, {}, {}, {}, {})
    private val keyActions = RecoveryActions({}, {}, {})

    /** Draws a screen. `texts` are the tags of views in which something must be written. */
    private fun picture(name: String, texts: List<String>, show: Screen.() -> Unit): Bitmap {
        val controller = Robolectric.buildActivity(Activity::class.java)
        val activity = controller.get()
        activity.setTheme(android.R.style.Theme_Material_Light)
        activity.title = "MLS sample"
        controller.setup()
        val screen = Screen(LinearLayout(activity).apply { orientation = LinearLayout.VERTICAL })
        screen.show()
        // No field has the focus, so no cursor blinks.
        screen.root.isFocusableInTouchMode = true
        activity.setContentView(screen.root)
        screen.root.requestFocus()
        shadowOf(Looper.getMainLooper()).idle()

        val window = activity.window.decorView
        val bitmap = Bitmap.createBitmap(window.width, window.height, Bitmap.Config.ARGB_8888)
        window.draw(Canvas(bitmap))
        val file = File("target/pictures/$name.png").also { it.parentFile!!.mkdirs() }
        file.outputStream().use { bitmap.compress(Bitmap.CompressFormat.PNG, 100, it) }

        assertTrue("$name has few colours", colours(bitmap, Rect(0, 0, bitmap.width, bitmap.height)).size > 20)
        for (tag in texts) {
            val view = checkNotNull(screen.root.findViewWithTag<View>(tag)) { tag }
            val area = Rect(0, 0, view.width, view.height)
            (window as ViewGroup).offsetDescendantRectToMyCoords(view, area)
            val inked = colours(bitmap, area)
            // Dark letters with soft edges on a light ground.
            assertTrue("nothing is written in $tag of $name: $inked", inked.size > 10)
            assertTrue("$tag of $name is dark", inked.maxBy { it.value }.key.let { Color.luminance(it) } > 0.5)
        }
        compare(name, bitmap)
        controller.pause().stop().destroy()
        return bitmap
    }

    /** How many pixels of an area have each colour. */
    private fun colours(bitmap: Bitmap, area: Rect): Map<Int, Int> =
        pixels(bitmap, area).toList().groupingBy { it }.eachCount()

    private fun pixels(bitmap: Bitmap, area: Rect = Rect(0, 0, bitmap.width, bitmap.height)): IntArray {
        val pixels = IntArray(area.width() * area.height())
        bitmap.getPixels(pixels, 0, area.width(), area.left, area.top, area.width(), area.height())
        return pixels
    }

    /** The picture in the pages is of this screen, and small. */
    private fun compare(name: String, bitmap: Bitmap) {
        val file = File("../../docs/pictures/android-$name.png")
        assertTrue("copy target/pictures/$name.png to $file", file.isFile)
        assertTrue("$file is too large", file.length() < LARGEST)
        val known = BitmapFactory.decodeFile(file.path)
        assertEquals(bitmap.width to bitmap.height, known.width to known.height)
        val differing = pixels(bitmap).zip(pixels(known)).count { (a, b) ->
            // Blue, green and red.
            listOf(0, 8, 16).any { abs((a shr it and 0xff) - (b shr it and 0xff)) > 64 }
        }
        val share = differing * 100.0 / (bitmap.width * bitmap.height)
        assertTrue("the screen has changed by $share %: copy target/pictures/$name.png to $file", share < 2)
    }

    @Test
    fun `logging in`() {
        picture("log-in", listOf("url", "user", "new", "enter")) { logIn { } }
    }

    @Test
    fun `the rooms, and the recovery key on a new phone`() {
        val stands = RecoveryShown(RecoveryState.Present("key", null), IdentityState.Incomplete(false, emptyList()))
        picture("rooms", listOf("room-list", "create", "recovery", "recovery-key", "recover")) {
            rooms(listOf("!tea:example.org", "!kettle:example.org"), { }, { }, { })
            recovery(stands, keyActions)
        }
    }

    @Test
    fun `a room with shields, and with what cannot be read`() {
        val unchecked = "This device cannot check who sent this message."
        val changed = "You verified this user, but their identity is another now."
        val lines = listOf(
            Line("\$1", "@bob:example.org", "You don't have access to messages sent before you joined.", isReadable = false),
            Line("\$2", "@alice:example.org", "Welcome, Carol!"),
            Line("\$3", "@bob:example.org", "The kettle is on.", Badge(false, unchecked)),
            Line("\$4", "@dave:example.org", "Wire the money today.", Badge(true, changed)),
            Line("\$5", "@bob:example.org", "Waiting for this message.", isReadable = false),
        )
        val drawn = picture("timeline", listOf("lines", "text", "send")) { timeline(lines) { } }
        val colours = colours(drawn, Rect(0, 0, drawn.width, drawn.height))
        for (shield in listOf(Color.RED, Color.GRAY)) assertTrue("$shield is missing", colours.containsKey(shield))
    }

    @Test
    fun `somebody whose identity is another than before`() {
        val dave = ChangedIdentity("@dave:example.org", "key", wasVerified = true)
        picture("identity", listOf("changed", "accept", "withdraw", "verify-anew", "room-list")) {
            trust(listOf(dave), null, decisions)
            rooms(listOf("!tea:example.org"), { }, { }, { })
        }
    }

    @Test
    fun `comparing emojis`() {
        val emojis = listOf(
            SasEmoji(0u, "🐶", "Dog"), SasEmoji(31u, "☂️", "Umbrella"), SasEmoji(38u, "🔑", "Key"), SasEmoji(21u, "🍕", "Pizza"),
            SasEmoji(53u, "🚀", "Rocket"), SasEmoji(14u, "🌙", "Moon"), SasEmoji(24u, "🎩", "Hat"),
        )
        val comparing = VerificationState.Comparing(emojis, emptyList())
        picture("emojis", listOf("comparison", "match", "mismatch", "leave")) {
            trust(emptyList(), Comparison("1", "@bob:example.org", isIncoming = false, comparing), decisions)
        }
    }

    private companion object {
        /** In bytes. */
        const val LARGEST = 60_000
    }
}
