/**
 * Where a push comes in, and the notification that it becomes. The sample has no push service: `onReceive` stands for
 * Firebase's `onMessageReceived`, or UnifiedPush's `onMessage`. README.md says how to send one by hand.
 */
package org.matrixmls.sample.android

import android.app.Notification
import android.app.NotificationChannel
import android.app.NotificationManager
import android.content.BroadcastReceiver
import android.content.Context
import android.content.Intent
import android.os.Build
import kotlinx.coroutines.CoroutineScope
import kotlinx.coroutines.Dispatchers
import kotlinx.coroutines.TimeoutCancellationException
import kotlinx.coroutines.launch
import kotlinx.coroutines.withTimeout

class PushReceiver : BroadcastReceiver() {
    override fun onReceive(context: Context, intent: Intent) {
        val roomId = intent.getStringExtra("room_id") ?: return
        val eventId = intent.getStringExtra("event_id") ?: return
        val pending = goAsync()
        CoroutineScope(Dispatchers.Default).launch {
            try {
                val notice = try {
                    withTimeout(PATIENCE_MS) { Device.of(context).push.notice(roomId, eventId) }
                } catch (_: TimeoutCancellationException) {
                    Push.GENERIC
                }
                if (notice != null) show(context, roomId, notice)
            } finally {
                pending.finish()
            }
        }
    }

    /** One notification a room: the newest message takes the place of the one before. */
    private fun show(context: Context, roomId: String, notice: Notice) {
        val manager = context.getSystemService(NotificationManager::class.java)
        val builder = if (Build.VERSION.SDK_INT >= Build.VERSION_CODES.O) {
            manager.createNotificationChannel(NotificationChannel(CHANNEL, "Messages", NotificationManager.IMPORTANCE_HIGH))
            Notification.Builder(context, CHANNEL)
        } else {
            @Suppress("DEPRECATION")
            Notification.Builder(context)
        }
        val notification = builder.setContentTitle(notice.title).setContentText(notice.text)
            .setSmallIcon(android.R.drawable.ic_dialog_email).setAutoCancel(true).build()
        manager.notify(roomId, 0, notification)
    }

    private companion object {
        const val CHANNEL = "messages"

        /** A receiver has ten seconds. */
        const val PATIENCE_MS = 8_000L
    }
}
