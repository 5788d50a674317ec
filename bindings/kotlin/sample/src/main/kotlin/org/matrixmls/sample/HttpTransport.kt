/**
 * The engine's requests over `java.net.http.HttpClient`: what an app with another HTTP client replaces.
 */
package org.matrixmls.sample

import java.io.IOException
import java.net.URI
import java.net.http.HttpClient
import java.net.http.HttpRequest
import java.net.http.HttpResponse
import java.time.Duration
import java.util.concurrent.CompletionException
import kotlinx.coroutines.future.await
import org.matrixmls.Answer
import org.matrixmls.OutgoingRequest
import org.matrixmls.Transport

/** Talks to one homeserver, with an access token once there is one. */
class HttpTransport(private val baseUrl: String, private val accessToken: String? = null) : Transport {
    private val client = HttpClient.newBuilder().connectTimeout(Duration.ofSeconds(10)).build()

    /** A `GET` goes without a body and without a type for one. */
    override suspend fun send(request: OutgoingRequest): Answer {
        val body = request.body.takeUnless { request.method == "GET" }
        return exchange(request.method, request.path, body, request.contentType)
    }

    /** Sends any request of the client-server API. Cancelling the coroutine cancels the exchange. */
    suspend fun exchange(
        method: String,
        path: String,
        body: ByteArray? = null,
        contentType: String = "application/json",
    ): Answer {
        val publisher = body?.let(HttpRequest.BodyPublishers::ofByteArray)
        val request = HttpRequest.newBuilder(URI.create(baseUrl + path))
            .timeout(Duration.ofSeconds(60))
            .method(method, publisher ?: HttpRequest.BodyPublishers.noBody())
        if (body != null) request.header("Content-Type", contentType)
        if (accessToken != null) request.header("Authorization", "Bearer $accessToken")
        val response = try {
            client.sendAsync(request.build(), HttpResponse.BodyHandlers.ofByteArray()).await()
        } catch (failure: CompletionException) {
            throw failure.cause as? IOException ?: IOException(failure)
        }
        return Answer(response.statusCode(), response.body())
    }
}
