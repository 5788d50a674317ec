/**
 * A homeserver over `HttpURLConnection`: the engine's requests, and the few calls that are the app's own.
 */
package org.matrixmls.sample.android

import java.io.IOException
import java.net.HttpURLConnection
import java.net.URL
import java.net.URLEncoder
import kotlinx.coroutines.Dispatchers
import kotlinx.coroutines.suspendCancellableCoroutine
import org.json.JSONObject
import org.matrixmls.Answer
import org.matrixmls.OutgoingRequest
import org.matrixmls.Transport

/** The homeserver answered with an error. */
class MatrixError(val status: Int, val code: String, message: String) : IOException(message)

/** One homeserver, with an access token once there is one. */
class Homeserver(private val baseUrl: String, private val accessToken: String? = null) : Transport {
    /** A `GET` goes without a body: with one, even an empty one, `HttpURLConnection` would make it a `POST`. */
    override suspend fun send(request: OutgoingRequest): Answer {
        val body = request.body.takeUnless { request.method == "GET" }
        return exchange(request.method, request.path, body, request.contentType)
    }

    /** A call of the app's own: JSON in, JSON out, an exception for an error. */
    suspend fun call(method: String, path: String, body: JSONObject? = null): JSONObject {
        val answer = exchange(method, path, body?.toString()?.toByteArray(), "application/json")
        val text = answer.body.decodeToString()
        if (answer.status in 200..299) return JSONObject(text)
        val error = runCatching { JSONObject(text) }.getOrDefault(JSONObject())
        val said = error.optString("error", "status ${answer.status}")
        throw MatrixError(answer.status, error.optString("errcode"), said)
    }

    // Reading from a socket cannot be interrupted; closing the connection ends it at once.
    private suspend fun exchange(method: String, path: String, body: ByteArray?, contentType: String): Answer =
        suspendCancellableCoroutine { continuation ->
            val connection = URL(baseUrl.trimEnd('/') + path).openConnection() as HttpURLConnection
            continuation.invokeOnCancellation { connection.disconnect() }
            Dispatchers.IO.dispatch(continuation.context) {
                continuation.resumeWith(runCatching { connection.talk(method, body, contentType) })
            }
        }

    private fun HttpURLConnection.talk(method: String, body: ByteArray?, contentType: String): Answer {
        try {
            requestMethod = method
            connectTimeout = CONNECT_MS
            readTimeout = READ_MS
            if (accessToken != null) setRequestProperty("Authorization", "Bearer $accessToken")
            if (body != null) {
                setRequestProperty("Content-Type", contentType)
                // Not streamed: the JVM then throws a 401 away, which may ask who the user is.
                doOutput = true
                outputStream.use { it.write(body) }
            }
            val status = responseCode
            val stream = if (status < 400) inputStream else errorStream
            return Answer(status, stream?.use { it.readBytes() } ?: ByteArray(0))
        } finally {
            disconnect()
        }
    }

    private companion object {
        const val CONNECT_MS = 10_000
        const val READ_MS = 60_000
    }
}

/** A part of a path or query. */
internal fun quote(text: String): String = URLEncoder.encode(text, "UTF-8").replace("+", "%20")
