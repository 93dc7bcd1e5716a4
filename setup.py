"""Installation of nav_monitor_ros as an ament_python package."""

from __future__ import annotations

from pathlib import Path

from setuptools import find_packages, setup

PACKAGE = 'nav_monitor_ros'
HERE = Path(__file__).parent


def share_files() -> list[tuple[str, list[str]]]:
    """Return the files to install into share/, in the layout of the repository.

    Returns:
        Pairs of target folder and files relative to this folder, as for setuptools' data_files.
    """
    share = Path('share') / PACKAGE
    folders = [
        ('share/ament_index/resource_index/packages', [f'resource/{PACKAGE}']),
        (str(share), ['package.xml']),
    ]
    for top in ('launch', 'config', 'bundles'):
        for folder in (HERE / top, *sorted((HERE / top).rglob('*'))):
            files = [
                str(path.relative_to(HERE))
                for path in sorted(folder.glob('*'))
                if path.is_file() and not path.name.startswith('.') and path.suffix != '.pyc'
            ]
            if files:
                folders.append((str(share / folder.relative_to(HERE)), files))
    return folders


setup(
    name=PACKAGE,
    version='0.1.0',
    description='Classifies the frames of a camera and says when not to believe the answer.',
    maintainer='nav_monitor_ros maintainers',
    maintainer_email='maintainers@nav-monitor-ros.invalid',
    license='Apache-2.0',
    packages=find_packages(include=[PACKAGE, f'{PACKAGE}.*']),
    package_data={PACKAGE: ['py.typed', 'views/pages/templates/*', 'views/pages/assets/*']},
    data_files=share_files(),
    python_requires='>=3.10',
    # For `pip install`. colcon ignores them: with it, package.xml and rosdep provide the same
    # packages, with OpenCV as the distribution's python3-opencv.
    install_requires=[
        'Jinja2>=3.0',
        'MarkupSafe>=2.0',
        'PyYAML>=5.4',
        'matplotlib>=3.5',
        'numpy>=1.26',
        'opencv-python-headless>=4.6,<5',
        'rich>=12',
        'safetensors>=0.4',
        'scikit-learn>=1.2',
        'scipy>=1.10',
        'threadpoolctl>=3',
        'torch>=2.1',
        'torchvision>=0.16',
    ],
    extras_require={
        # nav_monitor export, and running its output; onnxscript only for exporting
        'backends': ['onnx>=1.15', 'onnxruntime>=1.16', 'onnxscript>=0.3', 'openvino>=2024.0'],
        'bags': ['backports-zstd>=1', 'lz4>=4', 'rosbags>=0.11,<0.12'],  # sources PATH:TOPIC
        'demo': ['mlxtend>=0.22', 'scikit-image>=0.20'],
        'gradients': ['captum>=0.8', 'pillow>=9'],  # nav_monitor view backprop|saliency --method
        'parquet': ['pyarrow>=14'],  # nav_monitor evaluate --image-scores FILE.parquet
        # search among very many patterns; dd for comparison in nav_monitor benchmark patterns
        'patterns': ['dd>=0.5.7', 'faiss-cpu>=1.7'],
        'peers': ['pytorch-ood>=0.4'],  # nav_monitor evaluate --peers
        'ray': ['ray>=2.9'],  # nav_monitor fit|evaluate|replay --ray
        # the simulator; 4.0.0 on the index is an empty package
        'sim': ['mujoco>=3.3,<4'],
        'volume': ['k3d>=2.16'],  # nav_monitor view volume --turnable
    },
    zip_safe=False,
    entry_points={
        'console_scripts': [
            'camera = nav_monitor_ros.ros.camera.node:main',
            'monitor = nav_monitor_ros.ros.monitor.main:main',
            'nav_monitor = nav_monitor_ros.cli.command:main',
            'safety_stop = nav_monitor_ros.ros.safety_stop.node:main',
        ],
    },
)
