/**
 * The sample's one activity, in the framework's own views: log in, a list of rooms, a room. What it
 * shows is the session's; the session outlives it.
 */
package org.matrixmls.sample.android

import android.Manifest
import android.app.Activity
import android.os.Build
import android.os.Bundle
import android.view.View
import android.widget.LinearLayout
import kotlinx.coroutines.CancellationException
import kotlinx.coroutines.CoroutineScope
import kotlinx.coroutines.Dispatchers
import kotlinx.coroutines.SupervisorJob
import kotlinx.coroutines.cancel
import kotlinx.coroutines.launch

class MainActivity : Activity() {
    private val scope = CoroutineScope(SupervisorJob() + Dispatchers.Main)
    private lateinit var screen: Screen
    private var room: String? = null

    override fun onCreate(savedInstanceState: Bundle?) {
        super.onCreate(savedInstanceState)
        room = savedInstanceState?.getString(ROOM)
        screen = Screen(LinearLayout(this).apply { orientation = LinearLayout.VERTICAL })
        setContentView(screen.root)
        if (Build.VERSION.SDK_INT >= Build.VERSION_CODES.TIRAMISU) {
            requestPermissions(arrayOf(Manifest.permission.POST_NOTIFICATIONS), 0)
        }
        attempt { show(Device.of(this@MainActivity).session()) }
    }

    override fun onSaveInstanceState(outState: Bundle) {
        super.onSaveInstanceState(outState)
        outState.putString(ROOM, room)
    }

    override fun onDestroy() {
        scope.cancel()
        super.onDestroy()
    }

    @Deprecated("The framework's own way back, without AndroidX.")
    override fun onBackPressed() {
        val session = Device.of(this).current
        if (room == null || session == null) {
            @Suppress("DEPRECATION")
            super.onBackPressed()
        } else {
            room = null
            attempt { show(session) }
        }
    }

    private suspend fun show(session: Session?) {
        if (session == null) {
            screen.logIn { login -> attempt { show(Device.of(this).enter(login)) } }
            return
        }
        val open = room
        if (open != null) session.timelines.open(open)
        draw(session, session.shown.value)
        watch(session)
    }

    private fun watch(session: Session) {
        if (watching) return
        watching = true
        scope.launch { session.shown.collect { draw(session, it) } }
    }

    private var watching = false

    private fun draw(session: Session, shown: Shown) {
        val (open, trust) = room to session.trust
        screen.trust(shown.changed.values.toList(), shown.comparison, TrustActions(
            accept = { attempt { trust.accept(it) } },
            withdraw = { attempt { trust.withdraw(it) } },
            verify = { attempt { trust.verify(it) } },
            answer = { attempt { trust.answer(it) } },
            match = { attempt { trust.match(it) } },
            mismatch = { attempt { trust.mismatch(it) } },
            leave = { attempt { trust.leave(it) } },
        ))
        if (open == null) {
            screen.rooms(
                shown.rooms,
                select = { select(session, it) },
                create = { invite -> attempt { select(session, session.createRoom(invite)) } },
                verify = { user -> attempt { trust.verify(user) } },
            )
            screen.recovery(shown.recovery, RecoveryActions(
                setUp = { attempt { session.recovery.setUp() } },
                written = { session.recovery.keyIsWrittenDown() },
                recover = { typed -> attempt { session.recovery.recover(typed) } },
            ))
        } else {
            screen.timeline(shown.timelines[open].orEmpty()) { text ->
                attempt { session.send(open, text) }
            }
        }
    }

    private fun select(session: Session, roomId: String) {
        room = roomId
        attempt {
            session.timelines.open(roomId)
            draw(session, session.shown.value)
        }
    }

    /** Does something, and shows why it failed. */
    private fun attempt(action: suspend () -> Unit) {
        scope.launch {
            try {
                screen.say("")
                action()
            } catch (error: CancellationException) {
                throw error
            } catch (error: Exception) {
                // The sample's last resort: whatever it was, the person sees it.
                screen.say(error.message ?: error.toString())
            }
        }
    }

    private companion object {
        const val ROOM = "room"
    }
}

/** Whether a view is to be seen. */
internal fun View.visible(yes: Boolean) {
    visibility = if (yes) View.VISIBLE else View.GONE
}
