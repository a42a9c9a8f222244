import com.hivemq.embedded.EmbeddedExtension;
import com.hivemq.embedded.EmbeddedHiveMQ;
import com.hivemq.extension.sdk.api.ExtensionMain;
import com.hivemq.extension.sdk.api.auth.SimpleAuthenticator;
import com.hivemq.extension.sdk.api.parameter.ExtensionStartInput;
import com.hivemq.extension.sdk.api.parameter.ExtensionStartOutput;
import com.hivemq.extension.sdk.api.parameter.ExtensionStopInput;
import com.hivemq.extension.sdk.api.parameter.ExtensionStopOutput;
import com.hivemq.extension.sdk.api.services.Services;
import java.nio.file.Path;

/**
 * Starts HiveMQ Community Edition with the configuration, data and extensions in a folder. Without an extension that
 * authenticates them, HiveMQ refuses all clients; this one admits whoever has a certificate that its listener accepts.
 */
public class HiveMq {
    static class Certificates implements ExtensionMain {
        @Override
        public void extensionStart(ExtensionStartInput input, ExtensionStartOutput output) {
            SimpleAuthenticator admit = (connect, answer) -> {
                if (connect.getConnectionInformation().getTlsInformation().isPresent()) {
                    answer.authenticateSuccessfully();
                } else {
                    answer.failAuthentication();
                }
            };
            Services.securityRegistry().setAuthenticatorProvider(provided -> admit);
        }

        @Override
        public void extensionStop(ExtensionStopInput input, ExtensionStopOutput output) {}
    }

    public static void main(String[] arguments) {
        Path folder = Path.of(arguments[0]);
        EmbeddedExtension certificates = EmbeddedExtension.builder()
                .withId("certificates")
                .withName("certificates")
                .withVersion("1")
                .withPriority(0)
                .withStartPriority(0)
                .withAuthor("facewire")
                .withExtensionMain(new Certificates())
                .build();
        EmbeddedHiveMQ.builder()
                .withConfigurationFolder(folder.resolve("conf"))
                .withDataFolder(folder.resolve("data"))
                .withExtensionsFolder(folder.resolve("extensions"))
                .withEmbeddedExtension(certificates)
                .build()
                .start()
                .join();
        System.out.println("HiveMQ has started");
    }
}
