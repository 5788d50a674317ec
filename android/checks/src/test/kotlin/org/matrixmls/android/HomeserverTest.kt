/** The sample app's HTTP client, which apps copy: each kind of request that the engine hands out. */
package org.matrixmls.android

import java.util.UUID
import kotlinx.coroutines.runBlocking
import org.json.JSONObject
import org.junit.Assert.assertArrayEquals
import org.junit.Assert.assertEquals
import org.junit.Test
import org.junit.runner.RunWith
import org.matrixmls.Answer
import org.matrixmls.OutgoingRequest
import org.matrixmls.sample.android.Homeserver
import org.robolectric.RobolectricTestRunner
import org.robolectric.annotation.Config

@RunWith(RobolectricTestRunner::class)
@Config(sdk = [34])
class HomeserverTest {
    private val url = checkNotNull(System.getenv("MATRIX_MLS_HOMESERVER")) {
        "MATRIX_MLS_HOMESERVER is not set: run these tests with `cargo xtask test`"
    }

    private fun Answer.field(name: String): String = JSONObject(body.decodeToString()).getString(name)

    @Test
    fun `media goes up and comes down to the byte`() = runBlocking {
        val account = JSONObject()
            .put("username", "media-${UUID.randomUUID().toString().take(8)}").put("password", "secret")
            .put("auth", JSONObject().put("type", "m.login.dummy"))
        val token = Homeserver(url).call("POST", "/_matrix/client/v3/register", account).getString("access_token")
        val homeserver = Homeserver(url, token)
        suspend fun send(method: String, path: String, contentType: String, body: ByteArray = ByteArray(0)) =
            homeserver.send(OutgoingRequest("of no engine", method, path, contentType, body))

        // Megabytes of bytes that are no text.
        val blob = ByteArray(3_000_000) { (it * 31 + it / 251).toByte() }
        val uploaded = send("POST", "/_matrix/media/v3/upload", "application/octet-stream", blob)
        assertEquals(200, uploaded.status)
        val path = "/_matrix/client/v1/media/download/${uploaded.field("content_uri").removePrefix("mxc://")}"
        // As a POST, which a body would make it, this would be refused.
        val downloaded = send("GET", path, "application/json")
        assertEquals(200, downloaded.status)
        assertArrayEquals(blob, downloaded.body)
        val unknown = send("GET", path + "x", "application/json")
        assertEquals(404 to "M_NOT_FOUND", unknown.status to unknown.field("errcode"))
    }
}
