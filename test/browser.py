"""Headless Chromium that opens pages of the package offline and records errors."""

import base64
import json
import shutil

import cv2
import numpy as np
from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

# No sandbox, so that it also runs as root in a container; only local pages are opened. The other
# flags prevent it from contacting its vendor's servers.
FLAGS = (
    '--headless=new', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run',
    '--disable-background-networking', '--disable-component-update', '--disable-sync',
    '--disable-dev-shm-usage', '--enable-unsafe-swiftshader', '--force-device-scale-factor=1',
)
LOCAL = ('file:', 'data:', 'blob:', 'chrome:', 'about:', 'devtools:')
PATIENCE = 60.0  # timeout on a busy machine, seconds


class Browser:
    """One browser window without network access."""

    def __init__(self, profile, width=1200, height=1000, flags=()):
        options = Options()
        options.binary_location = shutil.which('chromium')
        window = f'--user-data-dir={profile}', f'--window-size={width},{height}'
        for flag in (*FLAGS, *flags, *window):
            options.add_argument(flag)
        options.set_capability('goog:loggingPrefs', {'browser': 'ALL', 'performance': 'ALL'})
        # With a path, selenium does not try to download a driver.
        self.driver = webdriver.Chrome(options, Service(shutil.which('chromedriver')))
        self.driver.set_page_load_timeout(PATIENCE)
        self.driver.set_script_timeout(PATIENCE)
        self.driver.execute_cdp_cmd('Network.enable', {})
        self.driver.execute_cdp_cmd('Network.emulateNetworkConditions', {
            'offline': True, 'latency': 0, 'downloadThroughput': 0, 'uploadThroughput': 0,
        })
        self.asked, self.complaints = [], []

    def close(self):
        self.driver.quit()

    def open(self, path):
        """Open a file, and discard earlier requests and messages."""
        self._collect()
        self.asked, self.complaints = [], []
        self.driver.get(path.resolve().as_uri())

    def assert_well(self):
        """Assert that there were no network requests, warnings or errors since ``open``."""
        self._collect()
        assert [url for url in self.asked if not url.startswith(LOCAL)] == []
        assert self.complaints == []

    def _collect(self):
        for entry in self.driver.get_log('performance'):
            message = json.loads(entry['message'])['message']
            if message['method'] == 'Network.requestWillBeSent':
                self.asked.append(message['params']['request']['url'])
        self.complaints += [
            entry['message'] for entry in self.driver.get_log('browser')
            if entry['level'] in ('SEVERE', 'WARNING')
        ]

    def script(self, body, *arguments):
        return self.driver.execute_script(body, *arguments)

    def wait(self, body, what, *arguments):
        """Wait until a script returns a true value, and return it."""
        return WebDriverWait(self.driver, PATIENCE, 0.05).until(
            lambda driver: driver.execute_script(body, *arguments), what
        )

    def find(self, selector):
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def find_all(self, selector):
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def press(self, selector, *keys):
        """Send keys to an element."""
        self.find(selector).send_keys(*keys)

    def slide(self, selector, value):
        """Move a slider as a user does: change its value and dispatch the events."""
        self.script(
            'const s = document.querySelector(arguments[0]); s.value = arguments[1];'
            's.dispatchEvent(new Event("input", {bubbles: true}));'
            's.dispatchEvent(new Event("change", {bubbles: true}));',
            selector, value,
        )

    def click_at(self, element, x, y):
        """Click at a position in an element, in pixels from its upper left corner."""
        self.script('arguments[0].scrollIntoView({block: "center"})', element)
        size = element.size
        ActionChains(self.driver).move_to_element_with_offset(
            element, round(x - size['width'] / 2), round(y - size['height'] / 2)
        ).click().perform()

    def picture(self, selector=None):
        """Return a screenshot of the window or of an element, uint8 (H, W, 3) RGB."""
        if selector is None:
            png = self.driver.get_screenshot_as_png()
        else:
            element = self.find(selector)
            self.script('arguments[0].scrollIntoView({block: "center"})', element)
            png = base64.b64decode(element.screenshot_as_base64)
        return cv2.cvtColor(
            cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB
        )

    def resize(self, width, height=1000):
        """Set the size of the viewport, which may be narrower than the narrowest window."""
        self.driver.execute_cdp_cmd('Emulation.setDeviceMetricsOverride', {
            'width': width, 'height': height, 'deviceScaleFactor': 1, 'mobile': False,
        })

    def overflow(self):
        """Return the number of pixels by which the page is wider than the window."""
        return self.script(
            'return document.documentElement.scrollWidth - document.documentElement.clientWidth'
        )
