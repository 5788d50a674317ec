/** The store's key in its file, with a key store that is made up here. */
package org.matrixmls.android

import java.io.File
import java.nio.file.Path
import java.security.GeneralSecurityException
import java.security.SecureRandom
import java.util.concurrent.Executors
import javax.crypto.Cipher
import javax.crypto.spec.GCMParameterSpec
import javax.crypto.spec.SecretKeySpec
import org.junit.jupiter.api.Assertions.assertArrayEquals
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertFalse
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Test
import org.junit.jupiter.api.assertThrows
import org.junit.jupiter.api.io.TempDir

/** A key store in memory that does what the Android Keystore does. */
class MemoryWrapper : KeyWrapper {
    var key: ByteArray? = null
    var works = true

    override fun wrap(secret: ByteArray): ByteArray {
        if (!works) throw GeneralSecurityException("the key store is busy")
        val key = key ?: ByteArray(32).also(SecureRandom()::nextBytes).also { key = it }
        val cipher = Cipher.getInstance("AES/GCM/NoPadding")
        cipher.init(Cipher.ENCRYPT_MODE, SecretKeySpec(key, "AES"))
        return cipher.iv + cipher.doFinal(secret)
    }

    override fun unwrap(wrapped: ByteArray): ByteArray {
        if (!works) throw GeneralSecurityException("the key store is busy")
        val key = key ?: throw WrappingKeyLost()
        val cipher = Cipher.getInstance("AES/GCM/NoPadding")
        cipher.init(Cipher.DECRYPT_MODE, SecretKeySpec(key, "AES"), GCMParameterSpec(128, wrapped, 0, 12))
        return cipher.doFinal(wrapped, 12, wrapped.size - 12)
    }
}

class KeystoreStoreKeyTest {
    @TempDir
    lateinit var directory: Path

    private val file: File get() = directory.resolve("matrix-mls.key").toFile()
    private val wrapper = MemoryWrapper()

    @Test
    fun `the key is made once and is the same ever after`() {
        val first = KeystoreStoreKey(file, wrapper).get().key
        assertEquals(32, first.size)
        assertArrayEquals(first, KeystoreStoreKey(file, wrapper).get().key)
        val inFile = file.readBytes().toList()
        assertTrue(inFile.windowed(8).none { it == first.toList().take(8) }, "the file holds it sealed")
        assertEquals(listOf(file.name), directory.toFile().list()!!.toList())
    }

    @Test
    fun `a deleted key leaves no file, and the next is another`() {
        val key = KeystoreStoreKey(file, wrapper)
        val first = key.get().key
        File(file.path + ".new").writeText("left by a crash")
        key.delete()
        key.delete()
        assertEquals(emptyList<String>(), directory.toFile().list()!!.toList())
        assertFalse(first.contentEquals(key.get().key))
    }

    @Test
    fun `many that ask at once get the same`() {
        val pool = Executors.newFixedThreadPool(8)
        val keys = (0 until 32).map { pool.submit<List<Byte>> { KeystoreStoreKey(file, wrapper).get().key.toList() } }
        assertEquals(1, keys.map { it.get() }.toSet().size)
        pool.shutdown()
    }

    @Test
    fun `a lost key, a damaged file and a key store that is busy are told apart, and nothing is overwritten`() {
        KeystoreStoreKey(file, wrapper).get()
        val whole = file.readBytes()

        wrapper.works = false
        assertThrows<StoreKeyException.Unavailable> { KeystoreStoreKey(file, wrapper).get() }
        wrapper.works = true
        file.writeBytes(whole.clone().also { it[20] = (it[20] + 1).toByte() })
        assertThrows<StoreKeyException.Damaged> { KeystoreStoreKey(file, wrapper).get() }
        file.writeBytes(whole.copyOf(14))
        assertThrows<StoreKeyException.Damaged> { KeystoreStoreKey(file, wrapper).get() }
        file.writeBytes(whole)
        wrapper.key = null
        assertThrows<StoreKeyException.Lost> { KeystoreStoreKey(file, wrapper).get() }
        assertArrayEquals(whole, file.readBytes())
    }

    @Test
    fun `a key that could not be kept is not given out`() {
        wrapper.works = false
        assertThrows<StoreKeyException.Unavailable> { KeystoreStoreKey(file, wrapper).get() }
        assertFalse(file.exists())
        wrapper.works = true
        val nowhere = directory.resolve("no/such/directory/key").toFile()
        assertThrows<StoreKeyException.Unavailable> { KeystoreStoreKey(nowhere, wrapper).get() }
    }
}
