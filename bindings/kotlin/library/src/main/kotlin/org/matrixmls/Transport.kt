/**
 * The loop between the engine's requests and an app's HTTP client: what to send when, and how long to
 * wait, is the engine's to say; how to send it is the [Transport]'s.
 */
package org.matrixmls

import java.io.IOException
import kotlinx.coroutines.CompletableDeferred
import kotlinx.coroutines.delay

/** A homeserver's answer, whatever it says. */
public class Answer(
    /** The HTTP status. */
    public val status: Int,
    /** The body, as it came. */
    public val body: ByteArray,
)

/** Sends the engine's requests with the app's HTTP client, base URL and access token. */
public fun interface Transport {
    /**
     * Sends one request and gives the answer, errors of the homeserver included. Throws [IOException]
     * when there was none: no network, a timeout, a connection cut.
     *
     * The method is `GET`, `PUT`, `POST` or `DELETE`; a `GET` is sent without a body. Bodies and answers are bytes and not
     * always text, and may be megabytes.
     */
    @Throws(IOException::class)
    public suspend fun send(request: OutgoingRequest): Answer
}

/** A request that the homeserver refused for good. */
public data class Refusal(
    /** Its HTTP method. */
    public val method: String,
    /** Its path. */
    public val path: String,
    /** The Matrix error code, or `HTTP_` and the status. */
    public val code: String,
    /** The homeserver's sentence. */
    public val reason: String,
)

/** What [drive] sent. */
public data class Driven(
    /** How many requests the homeserver took. */
    public val accepted: Int,
    /** Those it refused; the engine has undone what they stood for and plans it anew. */
    public val refused: List<Refusal>,
)

/** How often [encrypt] prepares a room anew when it changes between preparing and encrypting. */
private const val ATTEMPTS = 5

/** How long is waited at the most before the engine is asked again: a sync may have brought something to do. */
internal const val ASK_AGAIN_MS: ULong = 5_000u

/** The largest HTTP status there is. */
private const val LARGEST_STATUS = 999

/**
 * Sends everything the engine has to send, oldest first, until nothing is left. A request that fails is
 * sent again when the engine says so: after what the homeserver asked for (`retry_after_ms`), or a
 * delay that doubles with each failure. What earlier calls have put off is waited for, too; without a
 * network this therefore waits. Cancel it to stop. What was not sent stays in the store and is handed
 * out again. What is queued while it waits is sent soon. [MlsMachine.networkAvailable] ends the wait
 * when the network is back, and so does each sync; [MlsMachine.pendingRequests] says what waits, and
 * until when.
 *
 * Throws [MlsException.Unauthorized] when the homeserver refuses the access token: get another one and
 * run this again, nothing is lost. Throws [MlsException.Suspended] when the machine is suspended.
 *
 * Run it after each sync and whenever the network is back. [run] does all of that. Two at once are safe: no request is
 * sent by both at a time, and each returns once nothing is left.
 */
public suspend fun MlsMachine.drive(transport: Transport): Driven {
    var accepted = 0
    val refused = mutableListOf<Refusal>()
    // Whoever runs this wants to try with the token that there is now.
    accessTokenRenewed()
    while (true) {
        val asked = InFlight.now()
        val requests = outgoingRequests()
        if (requests.isEmpty()) {
            val pending = pendingRequests()
            // Another call has met the refusal.
            if (pending.unauthorized) throw unauthorized("another request was refused")
            pause(pending.retryAfterMs ?: return Driven(accepted, refused))
        }
        for (request in requests) {
            when (val outcome = send(request, transport, asked)) {
                // Another call has sent it meanwhile.
                null -> {}
                is RequestOutcome.Accepted -> accepted++
                is RequestOutcome.RetryLater -> {}
                is RequestOutcome.Unauthorized -> throw unauthorized(outcome.code)
                is RequestOutcome.Refused ->
                    refused += Refusal(request.method, request.path, outcome.code, outcome.reason)
            }
        }
    }
}

/**
 * Makes a room ready for a message: sends what [MlsRoom.prepareToSend] asks for until the group's
 * members are the room's. A device without a group joins it by this. Waits like [drive]. Keep syncing in another
 * coroutine: some of what this waits for arrives only by sync.
 * Throws [MlsException.Unauthorized] like [drive], and [MlsException.NewDeviceNeeded] when the homeserver has other
 * keys for this device.
 *
 * Throws [MlsException.NotReady] (`"members_unknown"`) if the homeserver does not say who is in the room: then nothing
 * is sent there.
 */
public suspend fun MlsMachine.prepare(room: MlsRoom, transport: Transport) {
    while (true) {
        val asked = InFlight.now()
        val plan = room.prepareToSend() as? SendPlan.Waiting ?: return
        for (request in plan.requests) {
            val outcome = send(request, transport, asked)
            if (outcome is RequestOutcome.Unauthorized) throw unauthorized(outcome.code)
        }
        if (plan.requests.isEmpty()) pause(plan.retryAfterMs ?: 0u)
    }
}

/**
 * Prepares a room and encrypts an event for it: gives the content of the `m.room.encrypted` event to
 * send. [content] is a JSON object.
 */
public suspend fun MlsMachine.encrypt(
    room: MlsRoom,
    eventType: String,
    content: String,
    transport: Transport,
): String {
    repeat(ATTEMPTS - 1) {
        prepare(room, transport)
        try {
            return room.encrypt(eventType, content)
        } catch (_: MlsException.NotReady) {
            // Somebody joined or left in between.
        }
    }
    prepare(room, transport)
    return room.encrypt(eventType, content)
}

/** [MlsMachine.markRequestAsSent] for the `Int` that HTTP clients give; 0 stands for no answer. */
public suspend fun MlsMachine.markRequestAsSent(
    id: String,
    status: Int,
    body: ByteArray,
): RequestOutcome {
    if (status !in 0..LARGEST_STATUS) {
        val reason = "status: $status is no HTTP status"
        throw MlsException.InvalidInput(ErrorDetails("bad_status", reason, retryable = false))
    }
    return markRequestAsSent(id, status.toUShort(), body)
}

/** Sends a request; where another call is just sending it, waits for that and gives nothing. */
private suspend fun MlsMachine.send(request: OutgoingRequest, transport: Transport, asked: Long): RequestOutcome? =
    InFlight.sendOnce(this, request.id, asked) {
        val answer = try {
            transport.send(request)
        } catch (_: IOException) {
            Answer(0, ByteArray(0))
        }
        markRequestAsSent(request.id, answer.status, answer.body)
    }

/** The requests that are being sent, and those that were lately, so that two loops do not send the same. */
private object InFlight {
    private const val REMEMBERED = 1_000

    /** By the machine's identity: what is remembered here keeps no machine alive. */
    private val running = HashMap<Pair<Int, String>, CompletableDeferred<Unit>>()
    private val ended = object : LinkedHashMap<Pair<Int, String>, Long>() {
        override fun removeEldestEntry(eldest: Map.Entry<Pair<Int, String>, Long>) = size > REMEMBERED
    }
    private var ends = 0L

    /** A point in time: what a machine hands out after it was not answered before it. */
    fun now(): Long = synchronized(running) { ends }

    /** Sends a request that was handed out after [asked], unless another loop is sending it or has since. */
    suspend fun <R> sendOnce(machine: MlsMachine, id: String, asked: Long, send: suspend () -> R): R? {
        val key = System.identityHashCode(machine) to id
        val own = CompletableDeferred<Unit>()
        val other = synchronized(running) {
            if ((ended[key] ?: 0L) > asked) return null
            running.putIfAbsent(key, own)
        }
        if (other != null) {
            other.await()
            return null
        }
        try {
            return send()
        } finally {
            synchronized(running) {
                running.remove(key)
                ended.remove(key)
                ended[key] = ++ends
            }
            own.complete(Unit)
        }
    }
}

private fun unauthorized(why: String): MlsException.Unauthorized {
    val reason = "the homeserver refuses the access token: $why"
    return MlsException.Unauthorized(ErrorDetails("unauthorized", reason, retryable = true))
}

/** Waits until something may have changed, at least a moment, so that no loop spins, and not too long. */
internal suspend fun MlsMachine.pause(milliseconds: ULong) {
    delay(1)
    waitForChange(milliseconds.coerceAtMost(ASK_AGAIN_MS))
}
