/**
 * What the tests stand on: machines in directories of their own, and accounts on the homeserver that
 * the test command started.
 */
package org.matrixmls.tests

import java.nio.file.Files
import java.nio.file.Path
import java.util.UUID
import java.util.concurrent.ConcurrentLinkedQueue
import kotlin.reflect.KClass
import kotlinx.coroutines.CoroutineScope
import kotlinx.coroutines.Dispatchers
import kotlinx.coroutines.delay
import kotlinx.coroutines.runBlocking
import kotlinx.coroutines.withTimeout
import org.json.JSONArray
import org.json.JSONObject
import org.junit.jupiter.api.Assertions.assertEquals
import org.matrixmls.Answer
import org.matrixmls.DeviceListChanges
import org.matrixmls.EpochInfo
import org.matrixmls.FollowedRooms
import org.matrixmls.MachineConfig
import org.matrixmls.MlsException
import org.matrixmls.MlsMachine
import org.matrixmls.MlsRoom
import org.matrixmls.Publishing
import org.matrixmls.RoomChanges
import org.matrixmls.RoomSettings
import org.matrixmls.StoreKey
import org.matrixmls.SyncChanges
import org.matrixmls.SyncStart
import org.matrixmls.Transport
import org.matrixmls.Update
import org.matrixmls.UpdateObserver
import org.matrixmls.UpdateSubscription
import org.matrixmls.code
import org.matrixmls.drive
import org.matrixmls.prepare
import org.matrixmls.sample.MatrixClient

/** Long enough for a slow machine; a test that takes this long hangs. */
private const val PATIENCE_MS = 180_000L

/** Runs a test's coroutine; one that hangs fails. */
fun test(body: suspend CoroutineScope.() -> Unit) = runBlocking(Dispatchers.Default) {
    withTimeout(PATIENCE_MS, body)
}

/** The homeserver of the test command. */
val homeserver: String
    get() = checkNotNull(System.getenv("MATRIX_MLS_HOMESERVER")) {
        "MATRIX_MLS_HOMESERVER is not set: run these tests with `cargo xtask test`"
    }

val KEY: StoreKey = StoreKey.Raw(ByteArray(32) { 7 })

fun config(
    directory: Path,
    storeKey: StoreKey = KEY,
    userId: String = "@alice:example.org",
    deviceId: String = "PHONE",
) = MachineConfig(userId, deviceId, directory.toString(), storeKey, Publishing.ALONE)

suspend fun open(directory: Path, storeKey: StoreKey = KEY): MlsMachine =
    MlsMachine.open(config(directory, storeKey))

/** The homeserver's list of a room's members: these have joined. */
fun members(vararg userIds: String): String {
    val events = userIds.map { userId ->
        JSONObject().put("type", "m.room.member").put("state_key", userId).put("sender", userId)
            .put("event_id", "${'$'}join-$userId").put("content", JSONObject().put("membership", "join"))
    }
    return JSONObject().put("chunk", JSONArray(events)).toString()
}

/** A sync of an app that has all rooms by one connection, with what is given and nothing else. */
fun sync(
    toDevice: List<String> = emptyList(),
    rooms: List<RoomChanges> = emptyList(),
    connection: String = "",
) = SyncChanges(
    connection = connection,
    start = SyncStart.After("s1"),
    nextBatch = "s1",
    toDevice = toDevice,
    deviceLists = DeviceListChanges(),
    followedRooms = FollowedRooms.All,
    rooms = rooms,
)

/** A homeserver that takes everything and has nothing; in each room is the user of these tests alone. */
val accepting = Transport { request ->
    val answer = when {
        request.path.contains("/keys/upload") -> """{"one_time_key_counts":{}}"""
        request.path.contains("/keys/query") -> """{"device_keys":{}}"""
        request.path.contains("/media/v3/upload") -> """{"content_uri":"mxc://example.org/${UUID.randomUUID()}"}"""
        request.path.contains("/members") -> members("@alice:example.org")
        request.path.contains("/messages") -> """{"chunk":[],"start":"s1"}"""
        request.method == "GET" -> """{"errcode":"M_NOT_FOUND","error":"Not found"}"""
        else -> """{"event_id":"$${UUID.randomUUID()}"}"""
    }
    Answer(if (answer.contains("errcode")) 404 else 200, answer.toByteArray())
}

/** Makes a room's group without a homeserver: the device is alone in it. */
suspend fun MlsMachine.enableAlone(roomId: String, settings: RoomSettings = RoomSettings()): MlsRoom {
    val room = room(roomId)
    room.enable(settings)
    drive(accepting)
    prepare(room, accepting)
    return room
}

/** A new account on the homeserver, its keys published. */
suspend fun account(name: String): MatrixClient = accountThatNeverSynced(name).also { it.settle() }

/** A new account on the homeserver, for a test that syncs in its own way. */
suspend fun accountThatNeverSynced(name: String): MatrixClient {
    val tag = UUID.randomUUID().toString().take(8)
    val device = MatrixClient.Device("PHONE", Files.createTempDirectory("matrix-mls-$name"), KEY)
    return MatrixClient.register(homeserver, "$name-$tag", "secret", device)
}

/** Another device of this user, with nothing in its store. */
suspend fun anotherDevice(client: MatrixClient, id: String): MatrixClient {
    val device = MatrixClient.Device(id, Files.createTempDirectory("matrix-mls-another"), KEY)
    val user = client.userId.substringAfter('@').substringBefore(':')
    return MatrixClient.logIn(homeserver, user, "secret", device)
}

/** A room whose group has both devices in it. */
suspend fun roomOf(alice: MatrixClient, bob: MatrixClient): String {
    val room = alice.createRoom(listOf(bob.userId))
    bob.join(room)
    alice.settle()
    alice.enable(room)
    alice.prepare(room)
    bob.settle()
    return room
}

/** What a machine tells, from when this was made. */
class Heard private constructor() : UpdateObserver {
    val updates = ConcurrentLinkedQueue<Update>()
    private lateinit var subscription: UpdateSubscription

    override fun onUpdate(update: Update) {
        updates += update
    }

    override fun onEnd() = Unit

    /** The first update of a kind; waits for it. */
    suspend inline fun <reified U : Update> one(): U {
        while (true) updates.filterIsInstance<U>().firstOrNull()?.let { return it } ?: delay(1)
    }

    fun close() {
        subscription.stop()
        subscription.close()
    }

    companion object {
        suspend operator fun invoke(machine: MlsMachine): Heard =
            Heard().also { it.subscription = machine.subscribe(it) }
    }
}

/** The block must fail with this variant and this code. */
suspend fun <E : MlsException> fails(variant: KClass<E>, code: String, block: suspend () -> Unit): E {
    val error = runCatching { block() }.exceptionOrNull()
    check(error is MlsException) { "expected ${variant.simpleName}, got $error" }
    assertEquals(variant, error::class, error.toString())
    assertEquals(code, error.code, error.toString())
    @Suppress("UNCHECKED_CAST")
    return error as E
}

suspend fun MatrixClient.head(roomId: String): EpochInfo =
    machine.room(roomId).epochs().single { it.isHead }

suspend fun MatrixClient.texts(roomId: String): List<String> =
    history(roomId).map { it.message?.let { message -> JSONObject(message.content).getString("body") } ?: "unread" }

/** Makes a commit on whatever this device has seen. */
suspend fun MatrixClient.commit(roomId: String) {
    machine.room(roomId).rotateKeys()
    prepare(roomId)
}

suspend fun settle(vararg clients: MatrixClient) = repeat(3) {
    for (client in clients) client.settle()
}

suspend fun close(vararg clients: MatrixClient) = clients.forEach { it.close() }
