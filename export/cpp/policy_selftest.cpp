// Replays the golden vectors of a policy file: `policy_selftest policy.onnx`. Prints the largest
// difference to what they should give and exits with 0 if it is within the file's tolerance. An
// example of the whole way from C++: bytes, contract, named tensors, recurrent state in and out.
#include <onnxruntime_cxx_api.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <fstream>
#include <iterator>
#include <map>
#include <nlohmann/json.hpp>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

using nlohmann::json;
using Shape = std::vector<int64_t>;

struct Tensor {  // an input with its batch axis; `bytes` must outlive the Ort::Value that looks at
                 // it
  std::string name, dtype;
  Shape shape;
  std::vector<unsigned char> bytes;
};

const std::map<std::string, std::pair<ONNXTensorElementDataType, size_t>> kTypes = {
    {"bool", {ONNX_TENSOR_ELEMENT_DATA_TYPE_BOOL, 1}},
    {"uint8", {ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8, 1}},
    {"float32", {ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT, 4}},
    {"int64", {ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64, 8}}};

size_t count(const Shape& shape) {
  size_t n = 1;
  for (int64_t side : shape) n *= static_cast<size_t>(side);
  return n;
}

Tensor zeros(const std::string& name, const std::string& dtype, Shape shape) {
  shape.insert(shape.begin(), 1);
  return {name, dtype, shape, std::vector<unsigned char>(count(shape) * kTypes.at(dtype).second)};
}

// The contract's random numbers: a 32-bit Mersenne Twister, floats of its lower 24 bits.
struct Draws {
  std::mt19937 generator;
  float uniform() { return static_cast<float>(generator() & 0xFFFFFFu) * 0x1p-24f; }
};

std::pair<float, float> limits(const json& low, const json& high) {
  double a = !low.is_null() ? low.get<double>()
                            : (!high.is_null() && high.get<double>() >= 0 ? 0.0 : -1.0);
  double b = !high.is_null() ? high.get<double>() : a + 10.0;
  return {static_cast<float>(a), static_cast<float>(b)};
}

// One observation of the golden sequence, by the contract's rule: a draw for each number, or for
// each cell of 8 x 8 pixels.
Tensor golden_observation(const json& spec, Draws& draws) {
  Tensor tensor = zeros(spec.at("name"), spec.at("dtype"), spec.at("shape").get<Shape>());
  const bool is_image = tensor.shape.size() == 4;
  const Shape image =
      is_image ? tensor.shape : Shape{1, 1, 1, static_cast<int64_t>(count(tensor.shape))};
  const int64_t cell = is_image ? 8 : 1, rows = (image[1] + cell - 1) / cell,
                columns = (image[2] + cell - 1) / cell;
  std::vector<float> values;
  for (int64_t i = 0; i < rows * columns * image[3]; ++i) {
    const size_t bound = is_image ? 0 : static_cast<size_t>(i);
    const auto [low, high] = limits(spec.at("low").at(bound), spec.at("high").at(bound));
    values.push_back(tensor.dtype == "uint8"
                         ? static_cast<float>(draws.generator() & 255u)
                         : std::clamp(low + draws.uniform() * (high - low), low, high));
  }
  for (size_t i = 0; i < count(image); ++i) {
    const int64_t channel = i % image[3], x = i / image[3] % image[2], y = i / image[3] / image[2];
    const float value = values[((y / cell) * columns + x / cell) * image[3] + channel];
    if (tensor.dtype == "uint8")
      tensor.bytes[i] = static_cast<unsigned char>(value);
    else
      reinterpret_cast<float*>(tensor.bytes.data())[i] = value;
  }
  return tensor;
}

double largest_difference(const Ort::Value& found, const json& expected) {
  const auto info = found.GetTensorTypeAndShapeInfo();
  if (info.GetElementCount() != expected.size())
    throw std::runtime_error("an output has another size than its golden value");
  const bool is_integer = info.GetElementType() == ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64;
  double worst = 0;
  for (size_t i = 0; i < expected.size(); ++i) {
    const double value = is_integer ? static_cast<double>(found.GetTensorData<int64_t>()[i])
                                    : found.GetTensorData<float>()[i];
    const double difference = std::abs(value - expected[i].get<double>());
    if (is_integer && difference != 0)
      throw std::runtime_error("an action or another integer differs from its golden value");
    worst = std::isfinite(difference) ? std::max(worst, difference) : INFINITY;
  }
  return worst;
}

using Outputs = std::map<std::string, Ort::Value>;

// Every input of one step, in the contract's order: observations, is_first, the state that the last
// step left, noise.
std::vector<Tensor> step_inputs(const json& contract, bool first, const Outputs& last,
                                Draws& observation_draws, Draws& noise_draws) {
  std::vector<Tensor> inputs;
  for (const json& spec : contract.at("observations"))
    inputs.push_back(golden_observation(spec, observation_draws));
  inputs.push_back(zeros(contract.at("is_first"), "bool", {}));
  inputs.back().bytes[0] = first;
  for (const json& state : contract.at("state")) {
    inputs.push_back(zeros(state.at("input"), state.at("dtype"), state.at("shape").get<Shape>()));
    if (first) continue;
    const auto* bytes =
        static_cast<const unsigned char*>(last.at(state.at("output")).GetTensorRawData());
    std::copy(bytes, bytes + inputs.back().bytes.size(), inputs.back().bytes.begin());
  }
  for (const json& noise :
       contract.at("noise")) {  // drawn even if not used: the stream must stay in step
    Tensor tensor = zeros(noise.at("name"), "float32", noise.at("shape").get<Shape>());
    auto* numbers = reinterpret_cast<float*>(tensor.bytes.data());
    std::generate(numbers, numbers + count(tensor.shape), [&] { return noise_draws.uniform(); });
    if (noise.at("used").get<bool>()) inputs.push_back(std::move(tensor));
  }
  return inputs;
}

Outputs run(Ort::Session& session, const json& contract, std::vector<Tensor>& inputs) {
  const auto memory_info = Ort::MemoryInfo::CreateCpu(OrtArenaAllocator, OrtMemTypeDefault);
  std::vector<Ort::Value> values;
  std::vector<const char*> input_names, output_names;
  for (Tensor& t : inputs) {
    input_names.push_back(t.name.c_str());
    values.push_back(Ort::Value::CreateTensor(memory_info, t.bytes.data(), t.bytes.size(),
                                              t.shape.data(), t.shape.size(),
                                              kTypes.at(t.dtype).first));
  }
  for (const json& output : contract.at("outputs")) {
    output_names.push_back(output.at("name").get_ref<const std::string&>().c_str());
  }
  auto results = session.Run(Ort::RunOptions{nullptr}, input_names.data(), values.data(),
                             values.size(), output_names.data(), output_names.size());
  Outputs outputs;
  for (size_t i = 0; i < results.size(); ++i)
    outputs.emplace(output_names[i], std::move(results[i]));
  if (!outputs.at("ok").GetTensorData<bool>()[0]) {
    throw std::runtime_error("the network says that its numbers are not finite");
  }
  return outputs;
}

double replay(Ort::Session& session, const json& contract) {
  const json& golden = contract.at("golden");
  if (golden.is_null()) throw std::runtime_error("the file has no golden vectors: export it again");
  if (!contract.at("batch").is_null() && contract.at("batch") != 1) {
    throw std::runtime_error("the file has a fixed batch: export it for any batch, or for 1");
  }
  Draws observation_draws{std::mt19937(golden.at("observation_seed").get<uint32_t>())};
  Draws noise_draws{std::mt19937(golden.at("noise_seed").get<uint32_t>())};
  const auto resets = golden.at("resets").get<std::vector<int>>();
  Outputs outputs;
  double worst = 0;
  for (int step = 0; step < golden.at("steps").get<int>(); ++step) {
    const bool first = std::count(resets.begin(), resets.end(), step) > 0;
    auto inputs = step_inputs(contract, first, outputs, observation_draws, noise_draws);
    outputs = run(session, contract, inputs);
    worst =
        std::max(worst, largest_difference(outputs.at("action"), golden.at("actions").at(step)));
    if (outputs.count("probs")) {
      worst = std::max(worst, largest_difference(outputs.at("probs"), golden.at("probs").at(step)));
    }
  }
  for (const auto& [input, expected] : golden.at("final_state").items()) {
    for (const json& state : contract.at("state")) {
      if (state.at("input") == input)
        worst = std::max(worst, largest_difference(outputs.at(state.at("output")), expected));
    }
  }
  return worst;
}

int main(int argc, char** argv) try {
  if (argc != 2) throw std::runtime_error("usage: policy_selftest policy.onnx");
  std::ifstream file(argv[1], std::ios::binary);
  // Bytes, not a path: old ONNX Runtimes follow a path's external data out of the folder. Check the
  // SHA-256 of these bytes.
  const std::vector<char> bytes{std::istreambuf_iterator<char>(file), {}};
  if (bytes.empty()) throw std::runtime_error(std::string("cannot read ") + argv[1]);
  Ort::Env env(ORT_LOGGING_LEVEL_WARNING, "dreamer_nav");
  Ort::SessionOptions options;
  options.SetIntraOpNumThreads(1).SetInterOpNumThreads(1);
  Ort::Session session(env, bytes.data(), bytes.size(), options);
  Ort::AllocatorWithDefaultOptions allocator;
  const auto text = session.GetModelMetadata().LookupCustomMetadataMapAllocated(
      "dreamer_nav.contract", allocator);
  if (!text)
    throw std::runtime_error("the file has no contract: it is not a policy of dreamer-nav");
  const json contract = json::parse(text.get());
  if (contract.at("schema") != 1)
    throw std::runtime_error("the contract has another schema than 1");
  const double worst = replay(session, contract), tolerance = contract.at("golden").at("tolerance");
  std::printf("%d steps, largest difference %.3g, tolerance %.3g\n",
              contract.at("golden").at("steps").get<int>(), worst, tolerance);
  return worst <= tolerance ? 0 : 1;
} catch (const std::exception& error) {
  std::fprintf(stderr, "policy_selftest: %s\n", error.what());
  return 2;
}
