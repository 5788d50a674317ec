/** The sample's HTTP client, which apps copy: each kind of request that the engine hands out. */
package org.matrixmls.tests

import com.sun.net.httpserver.HttpServer
import java.net.InetAddress
import java.net.InetSocketAddress
import java.util.concurrent.ConcurrentLinkedQueue
import org.json.JSONObject
import org.junit.jupiter.api.Assertions.assertArrayEquals
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Test
import org.matrixmls.OutgoingRequest
import org.matrixmls.sample.HttpTransport

/** Megabytes of bytes that are no text. */
private val BLOB = ByteArray(3_000_000) { (it * 31 + it / 251).toByte() }

class HttpTransportTest {
    private fun request(method: String, path: String, contentType: String, body: ByteArray = ByteArray(0)) =
        OutgoingRequest("of no engine", method, path, contentType, body)

    @Test
    fun `media goes up and comes down to the byte`() = test {
        val alice = account("alice")
        val upload = request("POST", "/_matrix/media/v3/upload", "application/octet-stream", BLOB)
        val uploaded = alice.transport.send(upload)
        assertEquals(200, uploaded.status, uploaded.body.decodeToString())
        val uri = JSONObject(uploaded.body.decodeToString()).getString("content_uri")
        val path = "/_matrix/client/v1/media/download/${uri.removePrefix("mxc://")}"
        val downloaded = alice.transport.send(request("GET", path, "application/json"))
        assertEquals(200, downloaded.status)
        assertArrayEquals(BLOB, downloaded.body)
        val unknown = alice.transport.send(request("GET", path + "x", "application/json"))
        assertEquals(404, unknown.status)
        assertEquals("M_NOT_FOUND", JSONObject(unknown.body.decodeToString()).getString("errcode"))
        alice.close()
    }

    @Test
    fun `a GET has no body, and what has one says of what type it is`() = test {
        val seen = ConcurrentLinkedQueue<List<Any?>>()
        val server = HttpServer.create(InetSocketAddress(InetAddress.getLoopbackAddress(), 0), 0)
        server.createContext("/") { exchange ->
            val headers = exchange.requestHeaders
            val body = exchange.requestBody.readBytes().toList()
            // Before JDK 19 (JDK-8283544) a request without a body says that it has one of no length.
            val length = (headers.getFirst("Content-Length") ?: headers.getFirst("Transfer-Encoding")).takeIf { it != "0" }
            seen += listOf(exchange.requestMethod, headers.getFirst("Content-Type"), length, body)
            exchange.sendResponseHeaders(200, -1)
            exchange.close()
        }
        server.start()
        try {
            val transport = HttpTransport("http://127.0.0.1:${server.address.port}")
            val answer = transport.send(request("GET", "/x", "application/json"))
            assertTrue(answer.status == 200 && answer.body.isEmpty())
            transport.send(request("PUT", "/x", "application/json", "{}".toByteArray()))
            transport.send(request("POST", "/x", "application/octet-stream", byteArrayOf(0, -1)))
        } finally {
            server.stop(0)
        }
        val expected = listOf(
            listOf("GET", null, null, emptyList<Byte>()),
            listOf("PUT", "application/json", "2", "{}".toByteArray().toList()),
            listOf("POST", "application/octet-stream", "2", listOf<Byte>(0, -1)),
        )
        assertEquals(expected, seen.toList())
    }
}
