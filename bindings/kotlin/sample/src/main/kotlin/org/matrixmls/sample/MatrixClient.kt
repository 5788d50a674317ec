/**
 * A Matrix client as small as one can be: what an app does around the engine, in the order it does it.
 */
package org.matrixmls.sample

import java.io.IOException
import java.net.URLEncoder
import java.nio.file.Files
import java.nio.file.Path
import java.nio.file.StandardCopyOption.REPLACE_EXISTING
import java.util.UUID
import org.json.JSONArray
import org.json.JSONObject
import org.matrixmls.DecryptedMessage
import org.matrixmls.EventOutcome
import org.matrixmls.MachineConfig
import org.matrixmls.MlsException
import org.matrixmls.MlsMachine
import org.matrixmls.Publishing
import org.matrixmls.RoomSettings
import org.matrixmls.StoreKey
import org.matrixmls.SyncChanges
import org.matrixmls.SyncSource
import org.matrixmls.SyncSummary
import org.matrixmls.code
import org.matrixmls.createRoomBody
import org.matrixmls.drive
import org.matrixmls.encrypt
import org.matrixmls.prepare
import org.matrixmls.run
import org.matrixmls.syncChangesFromResponse

/** The homeserver answered with an error. */
class MatrixError(what: String, val status: Int, body: String) : IOException("$what: $status $body")

/** An event of a room's history, and what was inside if it could be opened. */
class HistoryEvent(val eventId: String, val message: DecryptedMessage?)

/** One device of one user, logged in, with its machine open. */
class MatrixClient private constructor(
    private val http: HttpTransport,
    val machine: MlsMachine,
    private val directory: Path,
) {
    val userId: String get() = machine.userId()
    val deviceId: String get() = machine.deviceId()

    /** Where the machine's store is. */
    val store: Path = storeIn(directory)

    /** What sends the engine's requests. */
    val transport: HttpTransport get() = http

    private val syncToken = directory.resolve("next_batch")

    /** Feeds one sync to the engine. Returns the messages that came, and whether anything did. */
    suspend fun sync(timeoutMs: Int = 0): Synced {
        val (since, body) = askForSync(timeoutMs)
        val changes = syncChangesFromResponse(body, since)
        val summary = machine.receiveSync(changes)
        // Only now: what the engine did not take in would never come again.
        storePosition(changes)
        val response = JSONObject(body)
        val quiet = listOf("rooms", "to_device", "device_lists").none(response::has)
        return Synced(messagesOf(summary), quiet)
    }

    private suspend fun askForSync(timeoutMs: Int): Pair<String?, String> {
        val filter = """{"room":{"timeline":{"limit":50}},"presence":{"not_types":["*"]}}"""
        var path = "/_matrix/client/v3/sync?timeout=$timeoutMs&filter=${quote(filter)}"
        val since = if (Files.exists(syncToken)) Files.readString(syncToken) else null
        if (since != null) path += "&since=${quote(since)}"
        return since to call("GET", path)
    }

    private fun storePosition(changes: SyncChanges) {
        val draft = directory.resolve("next_batch.new")
        Files.writeString(draft, changes.nextBatch)
        Files.move(draft, syncToken, REPLACE_EXISTING)
    }

    private fun messagesOf(summary: SyncSummary): List<DecryptedMessage> = summary.rooms.flatMap { room ->
        room.events.mapNotNull { (it.outcome as? EventOutcome.Message)?.message }
    }

    /** Syncs and sends until it is cancelled, and tells what comes: what an app runs all the time. */
    suspend fun run(onMessage: suspend (DecryptedMessage) -> Unit): Nothing =
        machine.run(http, object : SyncSource {
            override suspend fun next(): SyncChanges {
                val (since, body) = try {
                    askForSync(timeoutMs = 30_000)
                } catch (error: MatrixError) {
                    // A refused token, for one, does not get better by asking again.
                    if (error.status in 400..499 && error.status != 429) throw IllegalStateException(error)
                    throw error
                }
                return syncChangesFromResponse(body, since)
            }

            override suspend fun received(changes: SyncChanges, summary: SyncSummary) {
                storePosition(changes)
                messagesOf(summary).forEach { onMessage(it) }
            }
        })

    class Synced(val messages: List<DecryptedMessage>, val quiet: Boolean)

    /** Sends what the engine wants sent and syncs, until nothing is left and nothing new comes. */
    suspend fun settle(): List<DecryptedMessage> {
        val messages = mutableListOf<DecryptedMessage>()
        do {
            val sent = machine.drive(http).accepted
            val synced = sync()
            messages += synced.messages
        } while (sent > 0 || !synced.quiet)
        return messages
    }

    /** Creates a room that is encrypted with MLS from its first event on, and invites others. */
    suspend fun createRoom(invite: List<String>): String {
        val request = JSONObject().put("preset", "private_chat").put("invite", JSONArray(invite))
        val body = JSONObject(createRoomBody(request.toString()))
        return JSONObject(call("POST", "/_matrix/client/v3/createRoom", body)).getString("room_id")
    }

    /** Makes the room's MLS group, with this device in it; the others are added before the first message. */
    suspend fun enable(roomId: String) {
        try {
            machine.room(roomId).enable(RoomSettings())
        } catch (error: MlsException.InvalidInput) {
            if (error.code != "already_enabled") throw error
        }
        settle()
    }

    suspend fun invite(roomId: String, userId: String) = act(roomId, "invite", JSONObject().put("user_id", userId))

    suspend fun join(roomId: String) = act(roomId, "join", JSONObject())

    suspend fun kick(roomId: String, userId: String) = act(roomId, "kick", JSONObject().put("user_id", userId))

    private suspend fun act(roomId: String, action: String, body: JSONObject) {
        call("POST", "/_matrix/client/v3/rooms/${quote(roomId)}/$action", body)
    }

    /** Makes the group's members the room's, without sending a message. */
    suspend fun prepare(roomId: String) = machine.prepare(machine.room(roomId), http)

    /** Sends a text, encrypted. Returns the event's id. */
    suspend fun send(roomId: String, text: String): String {
        val content = JSONObject().put("msgtype", "m.text").put("body", text).toString()
        val sealed = machine.encrypt(machine.room(roomId), "m.room.message", content, http)
        val path = "/_matrix/client/v3/rooms/${quote(roomId)}/send/m.room.encrypted/${UUID.randomUUID()}"
        return JSONObject(call("PUT", path, JSONObject(sealed))).getString("event_id")
    }

    /** The room's encrypted messages from the homeserver's history, oldest first. */
    suspend fun history(roomId: String): List<HistoryEvent> =
        encryptedEvents(roomId).map { event ->
            val message = try {
                machine.room(roomId).decrypt(event.toString())
            } catch (_: MlsException) {
                null
            }
            HistoryEvent(event.getString("event_id"), message)
        }

    /** The encrypted messages as they are. Commits are encrypted events too, and left out. */
    suspend fun encryptedEvents(roomId: String): List<JSONObject> = events(roomId).filter { event ->
        event.getString("type") == "m.room.encrypted" && !event.getJSONObject("content").has("resolves")
    }

    /** Every event of the room's history that this user may see, oldest first. */
    suspend fun events(roomId: String): List<JSONObject> {
        val events = ArrayDeque<JSONObject>()
        var from: String? = null
        do {
            val path = "/_matrix/client/v3/rooms/${quote(roomId)}/messages?dir=b&limit=100"
            val page = JSONObject(call("GET", path + (from?.let { "&from=${quote(it)}" } ?: "")))
            val chunk = page.getJSONArray("chunk")
            for (index in 0 until chunk.length()) events.addFirst(chunk.getJSONObject(index))
            val end = page.optString("end").ifEmpty { null }
            val more = chunk.length() > 0 && end != null && end != from
            from = end
        } while (more)
        return events
    }

    /** Closes the store. */
    suspend fun close() {
        machine.shutdown()
        machine.close()
    }

    private suspend fun call(method: String, path: String, body: JSONObject? = null): String =
        http.call(method, path, body)

    companion object {
        /** Registers an account and its first device. */
        suspend fun register(baseUrl: String, user: String, password: String, device: Device): MatrixClient =
            enter(baseUrl, "register", device, JSONObject()
                .put("username", user).put("password", password)
                .put("auth", JSONObject().put("type", "m.login.dummy")))

        /** Logs in; with the directory of an earlier time this goes on with its store. */
        suspend fun logIn(baseUrl: String, user: String, password: String, device: Device): MatrixClient =
            enter(baseUrl, "login", device, JSONObject()
                .put("type", "m.login.password").put("password", password)
                .put("identifier", JSONObject().put("type", "m.id.user").put("user", user)))

        private suspend fun enter(baseUrl: String, how: String, device: Device, request: JSONObject): MatrixClient {
            request.put("device_id", device.id)
            val answer = JSONObject(HttpTransport(baseUrl).call("POST", "/_matrix/client/v3/$how", request))
            Files.createDirectories(device.directory)
            val machine = MlsMachine.open(MachineConfig(
                userId = answer.getString("user_id"),
                deviceId = answer.getString("device_id"),
                storePath = storeIn(device.directory).toString(),
                storeKey = device.storeKey,
                publishing = Publishing.ALONE,
            ))
            return MatrixClient(HttpTransport(baseUrl, answer.getString("access_token")), machine, device.directory)
        }
    }

    /** A device: its id, the directory that is its own, and the key its store is sealed with. */
    class Device(val id: String, val directory: Path, val storeKey: StoreKey)
}

private suspend fun HttpTransport.call(method: String, path: String, body: JSONObject?): String {
    val answer = exchange(method, path, body?.toString()?.toByteArray())
    val text = answer.body.decodeToString()
    if (answer.status !in 200..299) throw MatrixError("$method $path", answer.status, text)
    return text
}

private fun storeIn(directory: Path): Path = directory.resolve("mls")

private fun quote(text: String): String = URLEncoder.encode(text, Charsets.UTF_8).replace("+", "%20")
