// Styles raw video with ONNX Runtime: reads bgr24 frames from standard input, writes bgr24 frames to standard output.
// docs/jetson.md has the command that builds it.
//
//   ffmpeg -i in.mp4 -f rawvideo -pix_fmt bgr24 - | ./frames monet.onnx 1280 720 |
//     ffmpeg -f rawvideo -pix_fmt bgr24 -s 1280x720 -r 30 -i - out.mp4

#include <array>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <string>
#include <vector>

#include <onnxruntime_cxx_api.h>

int main(int argc, char** argv) try {
    const int64_t width = argc > 3 ? std::atoi(argv[2]) : 0, height = argc > 3 ? std::atoi(argv[3]) : 0;
    const std::string device = argc > 4 ? argv[4] : "cpu";
    if (argc < 4 || argc > 5 || width < 16 || height < 16 || (device != "cpu" && device != "cuda")) {
        std::fprintf(stderr, "usage: %s MODEL.onnx WIDTH HEIGHT [cpu|cuda] < bgr24 > bgr24\n", argv[0]);
        return 2;
    }

    Ort::Env environment(ORT_LOGGING_LEVEL_ERROR, "frames");
    Ort::SessionOptions options;
    if (device == "cuda") options.AppendExecutionProvider_CUDA(OrtCUDAProviderOptions{});  // throws without CUDA
    Ort::Session session(environment, argv[1], options);

    // Input and output of a frame model are uint8 (1, H, W, 3) BGR: the bytes of a bgr24 frame.
    const std::array<int64_t, 4> shape{1, height, width, 3};
    std::vector<uint8_t> frame(static_cast<size_t>(height * width * 3)), styled(frame.size());
    const auto memory = Ort::MemoryInfo::CreateCpu(OrtArenaAllocator, OrtMemTypeDefault);
    const auto tensor = [&](std::vector<uint8_t>& bytes) {
        return Ort::Value::CreateTensor<uint8_t>(memory, bytes.data(), bytes.size(), shape.data(), shape.size());
    };
    const Ort::Value input = tensor(frame);
    Ort::Value output = tensor(styled);
    const std::array<const char*, 1> input_names{"frame"}, output_names{"styled"};

    size_t got;
    while ((got = std::fread(frame.data(), 1, frame.size(), stdin)) == frame.size()) {
        session.Run(Ort::RunOptions{nullptr}, input_names.data(), &input, 1, output_names.data(), &output, 1);
        if (std::fwrite(styled.data(), 1, styled.size(), stdout) != styled.size()) {
            std::fprintf(stderr, "standard output is closed\n");
            return 1;
        }
    }
    if (got != 0) {
        std::fprintf(stderr, "the last frame has %zu of %zu bytes: is the video %lldx%lld?\n", got, frame.size(),
                     static_cast<long long>(width), static_cast<long long>(height));
        return 1;
    }
    return std::fflush(stdout) == 0 ? 0 : 1;
} catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
}
