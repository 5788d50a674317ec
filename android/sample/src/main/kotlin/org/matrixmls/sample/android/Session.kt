/**
 * A device that is logged in: its machine, its sync loop, and what the screens show. Knows no view.
 */
package org.matrixmls.sample.android

import java.io.File
import java.io.IOException
import java.util.UUID
import kotlinx.coroutines.CancellationException
import kotlinx.coroutines.Dispatchers
import kotlinx.coroutines.channels.Channel
import kotlinx.coroutines.coroutineScope
import kotlinx.coroutines.delay
import kotlinx.coroutines.flow.MutableStateFlow
import kotlinx.coroutines.flow.StateFlow
import kotlinx.coroutines.flow.asStateFlow
import kotlinx.coroutines.flow.update
import kotlinx.coroutines.launch
import kotlinx.coroutines.withContext
import org.json.JSONArray
import org.json.JSONException
import org.json.JSONObject
import org.matrixmls.IdentityState
import org.matrixmls.MachineConfig
import org.matrixmls.MlsMachine
import org.matrixmls.Publishing
import org.matrixmls.RoomSettings
import org.matrixmls.StoreKey
import org.matrixmls.createRoomBody
import org.matrixmls.drive
import org.matrixmls.encrypt

/** What the screens show. */
data class Shown(
    val rooms: List<String> = emptyList(),
    val timelines: Map<String, List<Line>> = emptyMap(),
    /** Who has another identity than before, by user. */
    val changed: Map<String, ChangedIdentity> = emptyMap(),
    /** With whom emojis are compared. */
    val comparison: Comparison? = null,
    /** How the user's recovery key stands, once that is known. */
    val recovery: RecoveryShown? = null,
)

/** One logged-in device. */
class Session private constructor(
    private val homeserver: Homeserver,
    private val machine: MlsMachine,
    directory: File,
) {
    val userId: String get() = machine.userId()

    private val state = MutableStateFlow(Shown())
    val shown: StateFlow<Shown> = state.asStateFlow()

    /** Who is really there. */
    val trust = Trust(machine, state) { machine.drive(homeserver) }

    /** What was said. */
    val timelines = Timelines(homeserver, machine, state)

    /** The user's recovery key. */
    val recovery = Recovery(homeserver, machine, state)

    private val connections = SlidingSync(homeserver, machine, directory)

    /**
     * Syncs, and sends what the engine wants sent, for as long as it is not cancelled; what fails is tried again. Each at
     * its own pace: a request that has to wait does not hold up what arrives.
     */
    suspend fun run(): Unit = coroutineScope {
        val news = Channel<Unit>(Channel.CONFLATED)
        launch { for (unit in news) machine.drive(homeserver) }
        launch { timelines.watch() }
        launch { trust.watch() }
        launch { recovery.watch() }
        launch { forever { syncEncryption(it).also { news.send(Unit) } } }
        forever { syncRooms(it).also { news.send(Unit) } }
    }

    /** One sync of both connections, and what the engine wants sent after it. */
    suspend fun sync() {
        syncEncryption(timeoutMs = 0)
        syncRooms(timeoutMs = 0)
        machine.drive(homeserver)
    }

    private suspend fun forever(sync: suspend (timeoutMs: Int) -> Unit): Nothing {
        // The first answer is what happened while the app was closed, if anything did.
        var timeoutMs = 0
        while (true) {
            try {
                sync(timeoutMs)
                timeoutMs = LONG_POLL_MS
            } catch (error: CancellationException) {
                throw error
            } catch (_: IOException) {
                delay(RETRY_MS)
            } catch (_: JSONException) {
                // The homeserver's answer makes no sense. The next one may.
                delay(RETRY_MS)
            }
        }
    }

    private suspend fun syncEncryption(timeoutMs: Int) = timelines.take(connections.encryption(timeoutMs))

    private suspend fun syncRooms(timeoutMs: Int) {
        val synced = connections.rooms(timeoutMs)
        timelines.take(synced)
        acceptInvites(synced.response.getJSONObject("rooms"))
        showRooms()
    }

    private suspend fun showRooms() {
        val rooms = machine.rooms()
        state.update { it.copy(rooms = rooms) }
    }

    /** Makes this user's identity, by which others know which devices are theirs. */
    suspend fun makeIdentity() {
        machine.identity().use { it.create() }
        machine.drive(homeserver)
    }

    /** Makes the identity anew, for a user who has lost all devices: whoever had verified the user is asked. */
    suspend fun resetIdentity(password: String) = machine.identity().use { identity ->
        identity.reset()
        machine.drive(homeserver)
        val asked = identity.state()
        if (asked is IdentityState.AuthNeeded) {
            val user = JSONObject().put("type", "m.id.user").put("user", userId)
            val auth = JSONObject().put("type", "m.login.password").put("identifier", user)
                .put("password", password).put("session", asked.challenge.session)
            identity.authorize(auth.toString())
            machine.drive(homeserver)
        }
    }

    /** Makes a room that is encrypted with MLS from its first event on, with these users in it. */
    suspend fun createRoom(invite: List<String>): String {
        val request = JSONObject().put("preset", "private_chat").put("invite", JSONArray(invite))
        val body = JSONObject(createRoomBody(request.toString()))
        val roomId = homeserver.call("POST", "/_matrix/client/v3/createRoom", body).getString("room_id")
        machine.room(roomId).enable(RoomSettings())
        machine.drive(homeserver)
        return roomId
    }

    /** Sends a text, encrypted. Gives the event's id. */
    suspend fun send(roomId: String, text: String): String {
        val content = JSONObject().put("msgtype", "m.text").put("body", text).toString()
        val sealed = machine.encrypt(machine.room(roomId), "m.room.message", content, homeserver)
        val path = "/_matrix/client/v3/rooms/${quote(roomId)}/send/m.room.encrypted/${UUID.randomUUID()}"
        return homeserver.call("PUT", path, JSONObject(sealed)).getString("event_id")
    }

    /** Closes the store; the device stays logged in. */
    suspend fun close() {
        machine.shutdown()
        machine.close()
    }

    /** The sample goes wherever it is invited. */
    private suspend fun acceptInvites(rooms: JSONObject) {
        for (roomId in rooms.keys().asSequence().filter { rooms.getJSONObject(it).has("invite_state") }) {
            try {
                homeserver.call("POST", "/_matrix/client/v3/rooms/${quote(roomId)}/join", JSONObject())
            } catch (_: MatrixError) {
                // It was taken back, say. The other rooms go on.
            }
        }
    }

    /** Who to be, and where. */
    class Login(val url: String, val user: String, val password: String, val newAccount: Boolean)

    companion object {
        private const val LONG_POLL_MS = 30_000
        private const val RETRY_MS = 2_000L
        private const val ACCOUNT = "account.json"

        /** Logs in, or registers, as a new device. */
        suspend fun enter(directory: File, storeKey: () -> StoreKey, login: Login): Session {
            val request = if (login.newAccount) {
                JSONObject().put("username", login.user).put("auth", JSONObject().put("type", "m.login.dummy"))
            } else {
                val identifier = JSONObject().put("type", "m.id.user").put("user", login.user)
                JSONObject().put("type", "m.login.password").put("identifier", identifier)
            }
            val endpoint = if (login.newAccount) "register" else "login"
            val answer = Homeserver(login.url)
                .call("POST", "/_matrix/client/v3/$endpoint", request.put("password", login.password))
            val account = JSONObject().put("url", login.url)
            for (field in listOf("user_id", "device_id", "access_token")) account.put(field, answer.getString(field))
            withContext(Dispatchers.IO) {
                directory.deleteRecursively()
                directory.mkdirs()
                File(directory, ACCOUNT).writeText(account.toString())
            }
            val session = start(directory, storeKey, account)
            if (login.newAccount) session.makeIdentity()
            return session
        }

        /** The device that is logged in on this phone, if there is one. */
        suspend fun restore(directory: File, storeKey: () -> StoreKey): Session? =
            account(directory)?.let { start(directory, storeKey, it) }

        /** The homeserver of the device that is logged in. */
        suspend fun homeserver(directory: File): Homeserver =
            homeserver(account(directory) ?: throw IOException("nobody is logged in"))

        private fun homeserver(account: JSONObject) =
            Homeserver(account.getString("url"), account.getString("access_token"))

        private suspend fun account(directory: File): JSONObject? = withContext(Dispatchers.IO) {
            File(directory, ACCOUNT).takeIf { it.exists() }?.let { JSONObject(it.readText()) }
        }

        private suspend fun start(directory: File, storeKey: () -> StoreKey, account: JSONObject): Session {
            val key = withContext(Dispatchers.IO) { storeKey() }
            val config = MachineConfig(
                userId = account.getString("user_id"),
                deviceId = account.getString("device_id"),
                storePath = File(directory, "mls").path,
                storeKey = key,
                publishing = Publishing.ALONE,
            )
            val session = Session(homeserver(account), MlsMachine.open(config), directory)
            session.showRooms()
            return session
        }
    }
}
