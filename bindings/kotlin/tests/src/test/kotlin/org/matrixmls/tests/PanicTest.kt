/**
 * A defect of the engine must not take the app with it. The library of the tests has a hook, reached as
 * a C symbol, that makes it panic; the generated code is the one that ships.
 */
package org.matrixmls.tests

import com.sun.jna.NativeLibrary
import java.nio.file.Path
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Test
import org.junit.jupiter.api.assertThrows
import org.junit.jupiter.api.io.TempDir
import org.matrixmls.InternalException
import org.matrixmls.MlsException
import org.matrixmls.RoomSettings
import org.matrixmls.use

class PanicTest {
    @TempDir
    lateinit var directory: Path

    private fun panicAtNextCommit() = panic(0)

    private fun panicInNextCall() = panic(1)

    private fun panic(point: Int) {
        NativeLibrary.getInstance("matrix_mls").getFunction("matrix_mls_test_panic").invoke(arrayOf(point))
    }

    @Test
    fun `a panic in the middle of a change arrives as an error and the change did not happen`() = test {
        open(directory).use { machine ->
            val room = machine.room("!room:example.org")
            panicAtNextCommit()
            val error = fails(MlsException.Internal::class, "panic") { room.enable(RoomSettings()) }
            assertTrue(error.message.contains("panic"), error.message)
            assertEquals(emptyList<String>(), machine.rooms())
            room.enable(RoomSettings())
            assertEquals(listOf("!room:example.org"), machine.rooms())
        }
        open(directory).use { assertEquals(listOf("!room:example.org"), it.rooms()) }
    }

    @Test
    fun `a panic in a call that does not suspend arrives too`() = test {
        open(directory).use { machine ->
            panicInNextCall()
            val error = assertThrows<InternalException> { machine.room("!room:example.org") }
            assertTrue(error.message!!.contains("a panic that a test asked for"), error.message)
            assertEquals("!room:example.org", machine.room("!room:example.org").roomId())
        }
    }
}
