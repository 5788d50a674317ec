/**
 * This phone's device: one session a process, whichever activity shows it, and its sync loop.
 */
package org.matrixmls.sample.android

import android.content.Context
import java.io.File
import kotlinx.coroutines.CoroutineScope
import kotlinx.coroutines.Dispatchers
import kotlinx.coroutines.Job
import kotlinx.coroutines.SupervisorJob
import kotlinx.coroutines.cancelAndJoin
import kotlinx.coroutines.launch
import kotlinx.coroutines.sync.Mutex
import kotlinx.coroutines.sync.withLock
import org.matrixmls.StoreKey
import org.matrixmls.android.KeystoreStoreKey

/** What an app's own container would hold. */
class Device(private val directory: File, private val storeKey: () -> StoreKey) {
    private val scope = CoroutineScope(SupervisorJob() + Dispatchers.Default)
    private val opening = Mutex()
    private var loop: Job? = null

    /** What reads pushes, whether the session is open or not. */
    val push = Push(directory, storeKey)

    /** The session, once it was opened. */
    @Volatile
    var current: Session? = null
        private set

    /** The session of the device that is logged in, if one is. */
    suspend fun session(): Session? = opening.withLock {
        current ?: Session.restore(directory, storeKey)?.also(::start)
    }

    /** Logs in as a new device. */
    suspend fun enter(login: Session.Login): Session = opening.withLock {
        Session.enter(directory, storeKey, login).also(::start)
    }

    /** Closes what is open, as when the process ends. */
    suspend fun stop() = opening.withLock {
        loop?.cancelAndJoin()
        current?.close()
        current = null
    }

    private fun start(session: Session) {
        current = session
        loop = scope.launch { session.run() }
    }

    companion object {
        private var only: Device? = null

        /** Another way to the store's key, where there is no Android Keystore. */
        internal var keys: (Context) -> () -> StoreKey = { context ->
            val keystore = KeystoreStoreKey(context);
            { keystore.get() }
        }

        /** The process's device. */
        @Synchronized
        fun of(context: Context): Device = only ?: Device(
            File(context.applicationContext.noBackupFilesDir, "device"),
            keys(context.applicationContext),
        ).also { only = it }

        /** Forgets it, as when the process ends. */
        @Synchronized
        internal fun forget() {
            only = null
        }
    }
}
