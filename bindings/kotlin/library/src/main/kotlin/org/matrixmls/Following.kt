/** Reading one message beside a machine that has not seen its epoch yet, as a push's handler does. */
package org.matrixmls

import java.io.IOException

/** The largest HTTP status there is. */
private const val LARGEST_STATUS = 999

/**
 * Decrypts one `m.room.encrypted` message event of a room, given as JSON, also where the machine has not
 * seen its epoch yet: then the commits that lead there are fetched, and followed in memory. The store
 * stays as it is.
 *
 * Throws [MlsException.UnknownEpoch] where that does not lead to the message: show that there is one.
 * It takes at most 25 seconds; cancel it to stop before. [MlsReader.follow] says what else is bounded.
 */
public suspend fun MlsReader.decrypt(roomId: String, event: String, transport: Transport): DecryptedMessage =
    follow(roomId, event).use { follower ->
        var step = follower.nextStep()
        while (step is FollowStep.Send) {
            for (request in step.requests) follower.send(request, transport)
            step = follower.nextStep()
        }
        (step as FollowStep.Read).message
    }

private suspend fun MlsFollower.send(request: OutgoingRequest, transport: Transport) {
    val answer = try {
        transport.send(request)
    } catch (_: IOException) {
        Answer(0, ByteArray(0))
    }
    // What is no HTTP status is no answer.
    val status = if (answer.status in 0..LARGEST_STATUS) answer.status else 0
    markRequestAsSent(request.id, status.toUShort(), answer.body)
}
