/**
 * A key that never leaves the platform's key store, and seals another with it.
 */
package org.matrixmls.android

import android.security.keystore.KeyGenParameterSpec
import android.security.keystore.KeyPermanentlyInvalidatedException
import android.security.keystore.KeyProperties
import java.security.GeneralSecurityException
import java.security.KeyStore
import javax.crypto.Cipher
import javax.crypto.KeyGenerator
import javax.crypto.SecretKey
import javax.crypto.spec.GCMParameterSpec

/** Seals and opens small secrets. An app with rules of its own (StrongBox, user authentication) writes one. */
public interface KeyWrapper {
    /** Seals a secret, making the wrapping key if there is none. */
    @Throws(GeneralSecurityException::class)
    public fun wrap(secret: ByteArray): ByteArray

    /** Opens what [wrap] gave. Throws [WrappingKeyLost] when the wrapping key is not there any more. */
    @Throws(GeneralSecurityException::class)
    public fun unwrap(wrapped: ByteArray): ByteArray
}

/** The key store has no key for what was sealed, or will not give it out ever again. */
public class WrappingKeyLost(cause: Throwable? = null) :
    GeneralSecurityException("the wrapping key is gone", cause)

/** AES-256-GCM with a key of the Android Keystore, in hardware where the device has it. */
public class AndroidKeystoreWrapper(private val alias: String = "matrix-mls-store") : KeyWrapper {
    private val keyStore = KeyStore.getInstance(PROVIDER).apply { load(null) }

    override fun wrap(secret: ByteArray): ByteArray {
        val cipher = Cipher.getInstance(TRANSFORMATION)
        cipher.init(Cipher.ENCRYPT_MODE, existing() ?: generate())
        return cipher.iv + cipher.doFinal(secret)
    }

    override fun unwrap(wrapped: ByteArray): ByteArray {
        val key = existing() ?: throw WrappingKeyLost()
        if (wrapped.size <= IV_BYTES) throw GeneralSecurityException("what was sealed is cut short")
        val cipher = Cipher.getInstance(TRANSFORMATION)
        try {
            cipher.init(Cipher.DECRYPT_MODE, key, GCMParameterSpec(TAG_BITS, wrapped, 0, IV_BYTES))
        } catch (invalidated: KeyPermanentlyInvalidatedException) {
            throw WrappingKeyLost(invalidated)
        }
        return cipher.doFinal(wrapped, IV_BYTES, wrapped.size - IV_BYTES)
    }

    private fun existing(): SecretKey? = keyStore.getKey(alias, null) as? SecretKey

    private fun generate(): SecretKey {
        val purposes = KeyProperties.PURPOSE_ENCRYPT or KeyProperties.PURPOSE_DECRYPT
        val spec = KeyGenParameterSpec.Builder(alias, purposes)
            .setBlockModes(KeyProperties.BLOCK_MODE_GCM)
            .setEncryptionPaddings(KeyProperties.ENCRYPTION_PADDING_NONE)
            .setKeySize(KEY_BITS)
            .build()
        val generator = KeyGenerator.getInstance(KeyProperties.KEY_ALGORITHM_AES, PROVIDER)
        generator.init(spec)
        return generator.generateKey()
    }

    private companion object {
        const val PROVIDER = "AndroidKeyStore"
        const val TRANSFORMATION = "AES/GCM/NoPadding"
        const val KEY_BITS = 256
        const val IV_BYTES = 12
        const val TAG_BITS = 128
    }
}
