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
import kotlinx.coroutines.sync.Mutex
import kotlinx.coroutines.sync.withLock
import kotlinx.coroutines.withContext
import org.json.JSONArray
import org.json.JSONObject
import org.matrixmls.DecryptedMessage
import org.matrixmls.EventOutcome
import org.matrixmls.IdentityState
import org.matrixmls.MachineConfig
import org.matrixmls.MlsException
import org.matrixmls.MlsMachine
import org.matrixmls.Publishing
import org.matrixmls.RoomSettings
import org.matrixmls.StoreKey
import org.matrixmls.code
import org.matrixmls.createRoomBody
import org.matrixmls.drive
import org.matrixmls.encrypt
import org.matrixmls.syncChangesFromResponse

/** A line of a room, with its shield, if it has one. */
data class Line(val sender: String, val text: String, val badge: Badge? = null)

/** What the screens show. */
data class Shown(
    val rooms: List<String> = emptyList(),
    val timelines: Map<String, List<Line>> = emptyMap(),
    /** Who has another identity than before, by user. */
    val changed: Map<String, ChangedIdentity> = emptyMap(),
    /** With whom emojis are compared. */
    val comparison: Comparison? = null,
)

/** One logged-in device. */
class Session private constructor(
    private val homeserver: Homeserver,
    private val machine: MlsMachine,
    private val directory: File,
) {
    val userId: String get() = machine.userId()

    private val state = MutableStateFlow(Shown())
    val shown: StateFlow<Shown> = state.asStateFlow()

    /** Who is really there. */
    val trust = Trust(machine, state) { machine.drive(homeserver) }

    private val syncing = Mutex()
    private val syncToken = File(directory, "next_batch")

    /**
     * Syncs, and sends what the engine wants sent, for as long as it is not cancelled; what fails is tried again. Each at
     * its own pace: a request that has to wait does not hold up what arrives.
     */
    suspend fun run(): Unit = coroutineScope {
        val news = Channel<Unit>(Channel.CONFLATED)
        launch { for (unit in news) machine.drive(homeserver) }
        launch { trust.watch(::reopen) }
        while (true) {
            try {
                receive(LONG_POLL_MS)
                news.send(Unit)
            } catch (error: CancellationException) {
                throw error
            } catch (_: IOException) {
                delay(RETRY_MS)
            }
        }
    }

    /** One sync, and what the engine wants sent after it. */
    suspend fun sync() {
        receive(timeoutMs = 0)
        machine.drive(homeserver)
    }

    private suspend fun receive(timeoutMs: Int) = syncing.withLock {
        val filter = """{"room":{"timeline":{"limit":50}},"presence":{"not_types":["*"]}}"""
        val since = withContext(Dispatchers.IO) { if (syncToken.exists()) syncToken.readText() else null }
        val from = since?.let { "&since=${quote(it)}" } ?: ""
        val body = homeserver.call("GET", "/_matrix/client/v3/sync?timeout=$timeoutMs&filter=${quote(filter)}$from")
        acceptInvites(body)
        val changes = syncChangesFromResponse(body.toString(), since)
        val summary = machine.receiveSync(changes)
        // Only now: what the engine did not take in would never come again.
        withContext(Dispatchers.IO) {
            val draft = File(directory, "next_batch.new")
            draft.writeText(changes.nextBatch)
            if (!draft.renameTo(syncToken)) throw IOException("$draft could not be renamed")
        }
        for (room in summary.rooms) {
            val lines = room.events.mapNotNull { (it.outcome as? EventOutcome.Message)?.message?.let(::line) }
            if (lines.isNotEmpty()) {
                state.update { it.copy(timelines = it.timelines + (room.roomId to it.timelines[room.roomId].orEmpty() + lines)) }
            }
        }
        showRooms()
    }

    private suspend fun showRooms() {
        val rooms = machine.rooms()
        state.update { it.copy(rooms = rooms) }
    }

    /** Fills a room's timeline from the homeserver's history: the messages open again, however old. */
    suspend fun open(roomId: String) {
        val page = homeserver.call("GET", "/_matrix/client/v3/rooms/${quote(roomId)}/messages?dir=b&limit=50")
        val room = machine.room(roomId)
        val lines = mutableListOf<Line>()
        val chunk = page.getJSONArray("chunk")
        for (index in chunk.length() - 1 downTo 0) {
            val event = chunk.getJSONObject(index)
            val isCommit = event.getJSONObject("content").has("resolves")
            if (event.getString("type") != "m.room.encrypted" || isCommit) continue
            lines += try {
                line(room.decrypt(event.toString()))
            } catch (error: MlsException) {
                Line(event.getString("sender"), "cannot be read (${error.code})")
            }
        }
        state.update { it.copy(timelines = it.timelines + (roomId to lines)) }
    }

    /** Reads the timelines that are shown anew: their shields may be others. */
    private suspend fun reopen() {
        for (roomId in state.value.timelines.keys) {
            try {
                open(roomId)
            } catch (_: IOException) {
                // The shields are old until the room is opened again.
            }
        }
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

    /** Sends a text, encrypted. */
    suspend fun send(roomId: String, text: String) {
        val content = JSONObject().put("msgtype", "m.text").put("body", text).toString()
        val sealed = machine.encrypt(machine.room(roomId), "m.room.message", content, homeserver)
        val path = "/_matrix/client/v3/rooms/${quote(roomId)}/send/m.room.encrypted/${UUID.randomUUID()}"
        homeserver.call("PUT", path, JSONObject(sealed))
    }

    /** Closes the store; the device stays logged in. */
    suspend fun close() {
        machine.shutdown()
        machine.close()
    }

    private suspend fun acceptInvites(response: JSONObject) {
        val invited = response.optJSONObject("rooms")?.optJSONObject("invite") ?: return
        for (roomId in invited.keys()) {
            homeserver.call("POST", "/_matrix/client/v3/rooms/${quote(roomId)}/join", JSONObject())
        }
    }

    private fun line(message: DecryptedMessage): Line {
        val text = runCatching { JSONObject(message.content).getString("body") }.getOrDefault(message.eventType)
        return Line(message.senderUserId, text, badge(message.verdict))
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
        suspend fun restore(directory: File, storeKey: () -> StoreKey): Session? {
            val file = File(directory, ACCOUNT)
            val account = withContext(Dispatchers.IO) { if (file.exists()) JSONObject(file.readText()) else null }
            return account?.let { start(directory, storeKey, it) }
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
            val homeserver = Homeserver(account.getString("url"), account.getString("access_token"))
            val session = Session(homeserver, MlsMachine.open(config), directory)
            session.showRooms()
            return session
        }
    }
}
