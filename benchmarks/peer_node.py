r"""Typical hand-written node, with which the monitor is compared.

    python benchmarks/peer_node.py --ros-args \
        -p weights:=model.safetensors -p training:=training.npz

cv_bridge decodes the image, torchvision's transforms resize and normalise it, torch runs an
unmodified ResNet-18, a detector of pytorch-ood scores its features, and matplotlib draws the
activation maps as a grid if there is a subscriber. `nav_monitor benchmark node` runs this node in
the same way as the monitor.
"""

from __future__ import annotations

import io

import numpy as np
import rclpy
import torch
from cv_bridge import CvBridge
from PIL import Image as PillowImage
from pytorch_ood.detector import Mahalanobis
from rclpy.node import Node
from safetensors.torch import load_file
from sensor_msgs.msg import Image
from std_msgs.msg import Bool, Float32
from torchvision import transforms
from torchvision.models import resnet18
from vision_msgs.msg import Classification, ObjectHypothesis

TRANSFORM = transforms.Compose([
    transforms.Resize((224, 224)),
    transforms.ToTensor(),
    transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
])
QUANTILE = 0.95  # quantile of the training images' scores that is the threshold
SHOWN_MAPS = 64


class PeerNode(Node):
    """Node that classifies and scores each image in the callback."""

    def __init__(self) -> None:
        """Load the network and fit the detector."""
        super().__init__('peer')
        weights = self.declare_parameter('weights', '').value
        training = self.declare_parameter('training', '').value
        self.bridge = CvBridge()
        state = load_file(weights)
        self.model = resnet18(num_classes=len(state['fc.weight']))
        self.model.load_state_dict(state)
        self.model.eval()
        self.features = None
        self.maps = None
        self.model.avgpool.register_forward_hook(self._keep_features)
        self.model.layer1.register_forward_hook(self._keep_maps)
        self.detector = Mahalanobis(None)
        self.threshold = self._fit(training)
        self.alert_publisher = self.create_publisher(Bool, 'ood_alert', 1)
        self.score_publisher = self.create_publisher(Float32, '~/ood_score', 10)
        self.prediction_publisher = self.create_publisher(Classification, '~/prediction', 10)
        self.grid_publisher = self.create_publisher(Image, '~/activations', 1)
        self.create_subscription(Image, 'image', self._on_image, 1)
        self.get_logger().info('ready')

    def _keep_features(self, module, inputs, output):
        self.features = output.flatten(1)

    def _keep_maps(self, module, inputs, output):
        self.maps = output[0]

    def _forward(self, images):
        with torch.no_grad():
            logits = self.model(torch.stack([TRANSFORM(image) for image in images]))
        return logits, self.features

    def _fit(self, training):
        arrays = np.load(training)
        features = torch.cat([
            self._forward([PillowImage.fromarray(image)])[1] for image in arrays['x']
        ])
        self.detector.fit_features(features, torch.from_numpy(arrays['y']))
        return torch.quantile(self.detector.predict_features(features), QUANTILE).item()

    def _on_image(self, message):
        rgb = self.bridge.imgmsg_to_cv2(message, 'rgb8')
        logits, features = self._forward([PillowImage.fromarray(rgb)])
        score = self.detector.predict_features(features).item()
        self.alert_publisher.publish(Bool(data=score > self.threshold))
        self.score_publisher.publish(Float32(data=score))
        probabilities = logits.softmax(1)[0]
        best = probabilities.topk(min(3, len(probabilities)))
        self.prediction_publisher.publish(Classification(
            header=message.header,
            results=[
                ObjectHypothesis(class_id=str(index), score=probability)
                for index, probability in zip(
                    best.indices.tolist(), best.values.tolist(), strict=True)
            ],
        ))
        if self.grid_publisher.get_subscription_count():
            grid = self.bridge.cv2_to_imgmsg(self._draw(), 'rgb8')
            grid.header = message.header
            self.grid_publisher.publish(grid)

    def _draw(self):
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        figure = Figure(figsize=(6.4, 4.8), dpi=100)
        FigureCanvasAgg(figure)
        for place, channel in enumerate(self.maps[:SHOWN_MAPS]):
            axes = figure.add_subplot(8, 8, place + 1)
            axes.imshow(channel.numpy(), cmap='viridis')
            axes.axis('off')
        picture = io.BytesIO()
        figure.savefig(picture, format='rgba')
        pixels = np.frombuffer(picture.getvalue(), np.uint8).reshape(480, 640, 4)
        return np.ascontiguousarray(pixels[..., :3])


def main():
    """Run until interrupted."""
    rclpy.init()
    node = PeerNode()
    try:
        rclpy.spin(node)
    except (KeyboardInterrupt, rclpy.executors.ExternalShutdownException):
        pass


if __name__ == '__main__':
    main()
