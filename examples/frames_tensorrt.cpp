// Styles raw video with a TensorRT plan: reads bgr24 frames from standard input, writes bgr24 frames to standard output.
// docs/jetson.md has the command that builds it.
//
//   cyclecast build monet16.onnx -o monet.plan --engine tensorrt --size 1280x720
//   ffmpeg -i in.mp4 -f rawvideo -pix_fmt bgr24 - | ./frames monet.plan 1280 720 |
//     ffmpeg -f rawvideo -pix_fmt bgr24 -s 1280x720 -r 30 -i - out.mp4

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <fstream>
#include <iterator>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include <NvInfer.h>
#include <cuda_runtime_api.h>

static void check(cudaError_t error) {
    if (error != cudaSuccess) throw std::runtime_error(cudaGetErrorString(error));
}

static void check(bool success, const char* message) {
    if (!success) throw std::runtime_error(message);
}

class Logger : public nvinfer1::ILogger {
    void log(Severity severity, const char* message) noexcept override {
        if (severity <= Severity::kERROR) std::fprintf(stderr, "%s\n", message);
    }
};

int main(int argc, char** argv) try {
    const int width = argc == 4 ? std::atoi(argv[2]) : 0, height = argc == 4 ? std::atoi(argv[3]) : 0;
    if (width < 16 || height < 16) {
        std::fprintf(stderr, "usage: %s MODEL.plan WIDTH HEIGHT < bgr24 > bgr24\n", argv[0]);
        return 2;
    }
    std::ifstream file(argv[1], std::ios::binary);
    check(file.good(), "the plan cannot be read");
    const std::vector<char> plan{std::istreambuf_iterator<char>(file), {}};

    Logger logger;
    const std::unique_ptr<nvinfer1::IRuntime> runtime{nvinfer1::createInferRuntime(logger)};
    check(runtime != nullptr, "TensorRT could not start");
    const std::unique_ptr<nvinfer1::ICudaEngine> engine{runtime->deserializeCudaEngine(plan.data(), plan.size())};
    check(engine != nullptr, "this TensorRT or this GPU cannot load the plan; build it here");
    const std::unique_ptr<nvinfer1::IExecutionContext> context{engine->createExecutionContext()};
    check(context != nullptr, "not enough memory on the GPU");
    check(context->setInputShape("frame", nvinfer1::Dims4{1, height, width, 3}), "the plan was built for another size");

    // CPU and GPU of a Jetson share one memory, so frames are mapped, not copied.
    const size_t bytes = static_cast<size_t>(width) * height * 3;
    void *frame, *styled, *device_frame, *device_styled;
    check(cudaHostAlloc(&frame, bytes, cudaHostAllocMapped));
    check(cudaHostAlloc(&styled, bytes, cudaHostAllocMapped));
    check(cudaHostGetDevicePointer(&device_frame, frame, 0));
    check(cudaHostGetDevicePointer(&device_styled, styled, 0));
    check(context->setTensorAddress("frame", device_frame), "the plan has no input called frame");
    check(context->setTensorAddress("styled", device_styled), "the plan has no output called styled");
    cudaStream_t stream;
    check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));

    size_t got;
    while ((got = std::fread(frame, 1, bytes, stdin)) == bytes) {
        check(context->enqueueV3(stream), "TensorRT failed on a frame");
        check(cudaStreamSynchronize(stream));
        check(std::fwrite(styled, 1, bytes, stdout) == bytes, "standard output is closed");
    }
    check(got == 0, "the last frame is incomplete: does the video have another size?");
    check(std::fflush(stdout) == 0, "standard output is closed");
    cudaStreamDestroy(stream);
    cudaFreeHost(styled);
    cudaFreeHost(frame);
    return 0;
} catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
}
