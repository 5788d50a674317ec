/** What the sample shows for a push: beside the open app, and while no machine has the store open. */
package org.matrixmls.android

import android.app.Application
import android.app.Notification
import android.app.NotificationManager
import android.content.Context
import android.content.Intent
import android.content.IntentFilter
import java.io.File
import kotlinx.coroutines.runBlocking
import org.json.JSONObject
import org.junit.Assert.assertEquals
import org.junit.Assert.assertNull
import org.junit.Test
import org.matrixmls.sample.android.Device
import org.matrixmls.sample.android.Homeserver
import org.matrixmls.sample.android.Notice
import org.matrixmls.sample.android.Push
import org.matrixmls.sample.android.PushReceiver
import org.robolectric.RuntimeEnvironment
import org.robolectric.Shadows.shadowOf

class PushTest : AppTest() {
    private val context: Application = RuntimeEnvironment.getApplication()

    /** Has the system deliver a push, and gives the notification that it becomes. */
    private fun shown(roomId: String, eventId: String): Notice {
        val manager = context.getSystemService(NotificationManager::class.java)
        manager.cancelAll()
        context.sendBroadcast(Intent("push").putExtra("room_id", roomId).putExtra("event_id", eventId))
        val notification = await("a notification") { shadowOf(manager).getNotification(roomId, 0) }
        val words = notification.extras
        return Notice(words.getString(Notification.EXTRA_TITLE)!!, words.getString(Notification.EXTRA_TEXT)!!)
    }

    @Test
    fun `a push shows the message, also one of an epoch that the app has not seen`() {
        context.registerReceiver(PushReceiver(), IntentFilter("push"), Context.RECEIVER_NOT_EXPORTED)
        val bob = other()
        val app = start()
        enter(app)
        val room = roomWith(app, bob)
        val first = runBlocking { bob.send(room, "the kettle is on") }
        assertEquals(Notice(bob.userId, "the kettle is on"), shown(room, first))
        app.text("lines", "the kettle is on")

        // The app is closed, and Carol comes: a commit that the app has not seen.
        app.end()
        restart()
        val carol = other("carol")
        val account = JSONObject(File(context.noBackupFilesDir, "device/account.json").readText())
        val homeserver = Homeserver(account.getString("url"), account.getString("access_token"))
        val later = runBlocking {
            homeserver.call("POST", "/_matrix/client/v3/rooms/$room/invite", JSONObject().put("user_id", carol.userId))
            carol.sync()
            bob.sync()
            bob.send(room, "Carol is here")
        }
        assertEquals(Notice(bob.userId, "Carol is here"), shown(room, later))
        assertEquals(Push.GENERIC, shown(room, "\$gone"))

        // A push for the commit itself shows nothing.
        val push = Device.of(context).push
        val commits = runBlocking {
            val page = homeserver.call("GET", "/_matrix/client/v3/rooms/$room/messages?dir=b&limit=50").getJSONArray("chunk")
            (0 until page.length()).map { page.getJSONObject(it) }.filter { it.getJSONObject("content").has("resolves") }
        }
        assertNull(runBlocking { push.notice(room, commits.first().getString("event_id")) })
        runBlocking { for (session in listOf(bob, carol)) session.close() }
    }

    @Test
    fun `a push for nobody shows that there is something`() {
        context.registerReceiver(PushReceiver(), IntentFilter("push"), Context.RECEIVER_NOT_EXPORTED)
        assertEquals(Push.GENERIC, shown("!room:example.org", "\$event"))
    }
}
